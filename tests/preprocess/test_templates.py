"""Templates: what a reader sees in their place, family by family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.clean import clean
from preprocess.clean.parameters import Parameters
from preprocess.records import Wiki

CONVERT = [
    ("convert|5|km|mi", "5 kilometres"),
    ("convert|1|mi", "1 mile"),
    ("convert|5|km|mi|abbr=on", "5 km"),
    ("cvt|5|km|mi", "5 km"),
    ("convert|5|km|mi|sp=us", "5 kilometers"),
    ("convert|5|km|mi|adj=on", "5-kilometre"),
    ("convert|5|to|10|°C|°F", "5 to 10 °C"),
    ("convert|5|-|10|km2|sqmi|0|abbr=on", "5–10 km²"),
    ("convert|3|x|4|x|5|m", "3 × 4 × 5 metres"),
    ("convert|6|ft|2|in|m", "6 feet 2 inches"),
    ("convert|6|ft|2|m", "6 feet"),
    ("convert|12345.6|sqmi|km2", "12,345.6 square miles"),
    ("convert|-40|C|F", "−40 °C"),
    ("convert|1+1/2|in|mm|abbr=on", "1 1/2 in"),
    ("convert|7|smoot", "7 smoot"),
    ("convert|50|/km2", "50 per square kilometre"),
    ("convert|50", "50"),
    ("convert|30|mpgimp|L/100 km", "30 miles per imperial gallon"),
    ("convert|1|mpgus", "1 mile per US gallon"),
    ("convert|300|lbft|Nm", "300 pound-feet"),
    ("convert|300|lb.ft|Nm|abbr=on", "300 lb⋅ft"),
    ("convert|300|ft.lbf|J", "300 foot-pounds force"),
    ("convert|300|lbf|N", "300 pounds-force"),
    ("convert|1|e6km|mi", "1 million kilometres"),
    ("convert|5|e3acre|adj=on", "5-thousand-acre"),
    ("convert|5|e9m3|abbr=on", "5×10⁹ m³"),
    ("convert", ""),
    ("unité|98|km|2", "98 km²"),
    ("nombre|4,4|millions", "4,4 millions"),
    ("nombre|98", "98"),
]
VAL = [
    ("val|1.5|0.3|u=km", "1.5±0.3 km"),
    ("val|1.5|0.3|e=-5|u=m2", "(1.5±0.3)×10⁻⁵ m²"),
    ("val|2|0.3|0.1", "2+0.3−0.1"),
    ("val|-5|u=Mm", "−5 Mm"),
    ("val|12|u=%", "12%"),
    ("val|1234567|fmt=commas", "1,234,567"),
    ("val|6.02e23", "6.02×10²³"),
    ("val|-1.6E-19|0.1|u=kg", "(−1.6±0.1)×10⁻¹⁹ kg"),
    ("val|3|ul=km|upl=s", "3 km/s"),
]
NUMBERS = [
    ("formatnum:1234567", "1234567"),
    ("nts|1000", "1000"),
    ("frac|2", "1/2"),
    ("frac|3|4", "3/4"),
    ("sfrac|5|3|4", "5 3/4"),
    ("10^|6", "×10⁶"),
    ("e|-6", "×10⁻⁶"),
    ("sup|2", "²"),
    ("chem|H|2|O", "H2O"),
    ("gaps|1|234|567", "1234567"),
    ("US$|5", "US$5"),
]
DATES = [
    ("birth date|1879|3|14", "March 14, 1879"),
    ("Birth_date and age|1879|3|14|df=y", "14 March 1879"),
    ("birth date|1879", "1879"),
    ("birth date|1879|13|x", "1879"),
    ("death date and age|1955|4|18|1879|3|14", "April 18, 1955 (aged 76)"),
    ("death date and age|1955|3|13|1879|3|14|df=yes", "13 March 1955 (aged 75)"),
    ("death date and age|1955|2|30|1879|3|14", "February 30, 1955"),
    ("death year and age|1955|1879", "1955 (aged 75–76)"),
    ("start date|1969|7|20|20|17", "20:17, July 20, 1969"),
    ("start-date|7 December 1941", "7 December 1941"),
    ("end date|1990|05", "May 1990"),
    ("dts|1969|July|20", "July 20, 1969"),
    ("dts|1969-07-20|format=dmy", "20 July 1969"),
    ("age|1879|3|14|1955|4|18", "76"),
    ("age|1979|3|14", ""),
    ("as of|2010", "As of 2010"),
    ("as of|2010|6|lc=y", "as of June 2010"),
    ("as of|2010|6|1|df=US|since=y|post=,", "Since June 1, 2010,"),
    ("as of|2010|alt=lately", "lately"),
    ("circa|1500", "c. 1500"),
    ("c.|1500|1510", "c. 1500 – c. 1510"),
    ("floruit|1500", "fl. 1500"),
    ("reign|1500|1510", "r. 1500–1510"),
    ("date|20|juillet|1969", "20 juillet 1969"),
    ("s-|XIII", "XIIIe siècle"),
    ("s-|I|er", "Ier siècle"),
]
LANGUAGES = [
    ("lang|de|Straße", "Straße"),
    ("lang|de|text=Straße", "Straße"),
    ("lang-de|Straße", "German: Straße"),
    ("lang-xyz|word", "word"),
    ("langx|el|λόγος", "Greek: λόγος"),
    ("langx|el|λόγος|label=none", "λόγος"),
    ("transl|ar|DIN|kitāb", "kitāb"),
    ("nihongo|Tokyo Tower|東京タワー|Tōkyō tawā", "Tokyo Tower (東京タワー, Tōkyō tawā)"),
    ("nihongo|Tokyo", "Tokyo"),
    ("zh|c=北京|p=Běijīng", "Chinese: 北京; pinyin: Běijīng"),
    ("zh|c=北京|labels=no", "北京"),
    ("ill|Name|de|Anderer", "Name"),
    ("ill|Name|de|lt=shown", "shown"),
]
WORDS = [
    ("nowrap|a b", "a b"),
    ("nobr|1=a = b", "a = b"),
    ("small|{{lang|fr|mot}}", "mot"),
    ("abbr|BBC|British Broadcasting Corporation", "BBC"),
    ("flag|Germany", "Germany"),
    ("color|red|words", "words"),
    ("sic|tehir", "tehir [sic]"),
    ("sic|tehir|hide=y", "tehir"),
    ("sic", "[sic]"),
    ("bibleverse||Genesis|1:1", "Genesis 1:1"),
    ("keypress|Ctrl|C", "Ctrl+C"),
    ("angbr|a", "⟨a⟩"),
    ("USS|Enterprise|CV-6", "USS Enterprise (CV-6)"),
    ("HMS|Victory|1765|2", "HMS Victory"),
    ("'s", "'s"),
    ("=", "="),
    ("hlist|a||b", "a · b"),
    ("music|flat", "♭"),
    ("music|Sharp", "♯"),
    ("music|natural", "♮"),
    ("music|time|3|4", "3/4"),
    ("CO2", "CO₂"),
    ("chem2|H2O", "H2O"),
    ("ship|USS|Maine", "USS Maine"),
    ("ship|USS|Maine|ACR-1", "USS Maine (ACR-1)"),
    ("ship||Titanic", "Titanic"),
    ("ruby|東京|とうきょう", "東京"),
    ("読み仮名|東京|とうきょう", "東京"),
    ("lit|hot stone", "lit. ‘hot stone’"),
    ("gloss|stone", "‘stone’"),
    ("IAST|Kṛṣṇa", "Kṛṣṇa"),
    ("ordinal|3", "3rd"),
    ("ordinal|112", "112th"),
    ("percent|1|3|1", "33.3%"),
    ("percent|1|0", ""),
    ("pct|30", "30%"),
    ("s|XIX|e", "XIXe siècle"),
    ("s2|XVIII|e|XIX|e", "XVIIIe et XIXe siècles"),
    ("XIXe siècle", "XIXe siècle"),
    ("Ier siècle", "Ier siècle"),
    ("1er", "1er"),
    ("n°|5", "n° 5"),
    ("citation|Je pense", "« Je pense »"),
]
NOTHING = [
    "Infobox person|name=x",
    "citation needed",
    "main|X",
    "cite web|title=x",
    "citation|title=x|year=1900",
    "div col|colwidth=20em",
    "IPAc-en|a",
    "#if:a|b",
    "flagicon|X",
    "",
]


@pytest.mark.parametrize(("template", "text"), [*CONVERT, *VAL, *NUMBERS, *DATES, *LANGUAGES, *WORDS])
def test_templates_show_what_readers_see(template: str, text: str) -> None:
    assert clean(f"a {{{{{template}}}}} b", "wikitext").text == f"a {text} b".replace("  ", " ")


@pytest.mark.parametrize("template", NOTHING)
def test_templates_that_show_nothing_are_counted(template: str) -> None:
    assert clean(f"a {{{{{template}}}}} b", "wikitext") == ("a b", {"templates": 1})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a{{snd}}b", "a – b"),
        ("E{{music|flat}} x {{n°}}5", "E♭ x n° 5"),
        ("x\n{{columns-list|colwidth=20em|\n* a\n* [[b|c]]\n}}\ny", "x\n\na\nc\n\ny"),
        ("x {{plainlist|\n* a\n* b}}", "x\na\nb"),
        ("x {{bulleted list|a|b}}", "x\na\nb"),
        ("1{{ndash}}2", "1–2"),
        ("a{{·}}b", "a · b"),
        ("5{{nbsp}}km", "5 km"),
        ("dog{{' \"}}", "dog' \""),
        ("x{{quote|To be|Hamlet|Act 3}}y", "x\nTo be\n— Hamlet, Act 3\ny"),
        ("x\n{{blockquote|text=To be}}\ny", "x\n\nTo be\n\ny"),
    ],
)
def test_marks_and_quotations(raw: str, text: str) -> None:
    assert clean(raw, "wikitext").text == text


def test_numbers_are_grouped_in_english() -> None:
    raw = "{{formatnum:1234567}} {{formatnum:1,234|R}} {{formatnum:1234|R}}"
    assert clean(raw, "wikitext", wiki=Wiki("en")).text == "1,234,567 1,234 1234"
    assert clean(raw, "wikitext", wiki=Wiki("de")).text == "1234567 1,234 1234"


def test_parameters() -> None:
    p = Parameters.parse(" Template:Birth_date | 1879|3= 14 |2=3| df = y ")
    assert (p.name, p.positional, p.named) == ("birth date", ["1879", "3", "14"], {"df": "y"})
    assert (p[3], p[4], p["df"], p["mf"]) == ("14", "", "y", "")


@given(
    st.sampled_from([case.partition("|")[0] for case, _ in (*CONVERT, *VAL, *NUMBERS, *DATES, *LANGUAGES, *WORDS)]),
    st.lists(st.text(alphabet="0123456789-=./ akm²٣", max_size=6), max_size=8),
)
def test_no_parameters_fail(name: str, parameters: list[str]) -> None:
    text = clean("{{" + "|".join([name, *parameters]) + "}}", "wikitext").text
    assert "{{" not in text
    assert "|" not in text
