"""Templates that stand for words in a sentence: what a reader sees in their place.

A table from names to functions of the parameters. The names are those that are common in articles of the English
Wikipedia, and the kin of the most common ones in other languages. Templates that are not in the table (infoboxes,
citations, navigation, maintenance, pronunciations) show nothing.
"""

import re
from collections.abc import Callable

from preprocess.clean import dates, french, units
from preprocess.clean.languages import LANGUAGES
from preprocess.clean.parameters import Parameters, superscript

Render = Callable[[Parameters], str]


def _shows(position: int) -> Render:
    return lambda p: p[position] or p["text"]


def _last(p: Parameters) -> str:
    return p.positional[-1] if p.positional else ""


def _joined(between: str, before: str = "", after: str = "") -> Render:
    """All positional parameters."""

    def render(p: Parameters) -> str:
        shown = between.join(part for part in p.positional if part)
        return f"{before}{shown}{after}" if shown else ""

    return render


def _always(text: str) -> Render:
    return lambda p: text


def _around(before: str, after: str = "") -> Render:
    """The first parameter between two strings."""
    return lambda p: f"{before}{p[1]}{after}" if p[1] else ""


def _fraction(p: Parameters) -> str:
    match p.positional:
        case [denominator]:
            return f"1/{denominator}"
        case [numerator, denominator]:
            return f"{numerator}/{denominator}"
        case [whole, numerator, denominator, *_]:
            return f"{whole} {numerator}/{denominator}"
    return ""


def _interlanguage(p: Parameters) -> str:
    """A link to an article that only another language has."""
    return p["lt"] or p["label"] or p[1]


def _date(p: Parameters) -> str:
    """`{{date|20|juillet|1969}}` (French) and `{{date|20 July 1969|dmy}}`."""
    return " ".join(part for part in p.positional if part.lower() not in ("", "dmy", "mdy", "ymd", "iso"))


def _sic(p: Parameters) -> str:
    words = " ".join(part for part in p.positional[:2] if part)
    if p["hide"] in ("y", "yes"):
        return words
    return f"{words} [sic]" if words else "[sic]"


def _quote(p: Parameters) -> str:
    """The quotation in lines of its own, with its origin where it is given."""
    text = p[1] or p["text"] or p["quote"]
    origin = ", ".join(
        part for part in (p[2] or p["author"] or p["sign"] or p["autor"], p[3] or p["source"] or p["quelle"]) if part
    )
    return f"\n{text}\n" + (f"— {origin}\n" if origin else "") if text else ""


def _power_of_ten(p: Parameters) -> str:
    return f"×10{superscript(p[1])}" if p[1] else ""


def _nihongo(p: Parameters) -> str:
    """`{{nihongo|English|kanji|romaji|…}}` as "English (kanji, romaji)"."""
    inner = ", ".join(part for part in (p[2], p[3], p[4] or p["extra"]) if part)
    return f"{p[1]} ({inner})" if p[1] and inner else p[1] or inner


_CHINESE = (
    ("c", "Chinese"),
    ("s", "simplified Chinese"),
    ("t", "traditional Chinese"),
    ("p", "pinyin"),
    ("w", "Wade–Giles"),
    ("j", "Jyutping"),
    ("l", "lit."),
)


def _chinese(p: Parameters) -> str:
    """`{{zh|c=…|p=…}}` as "Chinese: …; pinyin: …"."""
    label = p["labels"] != "no"
    return "; ".join(f"{name}: {p[key]}" if label else p[key] for key, name in _CHINESE if p[key])


def _language(code: str, text: str) -> str:
    """A foreign text behind the name of its language, as `{{lang-de|…}}` shows it."""
    name = LANGUAGES.get(code)
    return f"{name}: {text}" if name and text else text


def _labelled_language(p: Parameters) -> str:
    """`{{langx|de|…}}`."""
    text = p[2] or p["text"]
    return text if p["label"] == "none" else _language(p[1].lower(), text)


def _ship(p: Parameters) -> str:
    """`{{USS|Name|CV-6}}` as "USS Name (CV-6)"; a third parameter tells to hide a part."""
    number = f" ({p[2]})" if p[2] and not p[3] else ""
    return f"{p.name.upper()} {p[1]}{number}" if p[1] else ""


def _any_ship(p: Parameters) -> str:
    """`{{ship|USS|Maine|ACR-1}}` as "USS Maine (ACR-1)"; a fourth parameter tells to hide a part."""
    number = f" ({p[3]})" if p[3] and not p[4] else ""
    return f"{p[1]} {p[2]}{number}".strip() if p[2] else ""


def _ordinal(p: Parameters) -> str:
    number = p[1]
    teen = number[-2:] in ("11", "12", "13")
    return number + ("th" if teen else _ORDINALS.get(number[-1:], "th")) if number.isdecimal() else number


def _percentage(p: Parameters) -> str:
    """`{{percent|1|4}}` as "25%", with the digits that the third parameter asks for; one number is one already."""
    if not p[2]:
        return f"{p[1]}%" if p[1] else ""
    if not (_SHORT_NUMBER.fullmatch(p[1]) and _SHORT_NUMBER.fullmatch(p[2]) and float(p[2])):
        return ""
    digits = int(p[3]) if p[3] in tuple("0123456789") else 0
    return f"{100 * float(p[1]) / float(p[2]):.{digits}f}%"


def _music(p: Parameters) -> str:
    """`{{music|flat}}`, `{{music|time|3|4}}`."""
    return f"{p[2]}/{p[3]}" if p[1] == "time" else _ACCIDENTALS.get(p[1].lower(), "")


def _list(p: Parameters) -> str:
    """A list of wikitext in columns or without marks: its items begin lines, as they must."""
    items = p[1] or p["content"]
    return f"\n{items}\n" if items.startswith(("*", "#")) else _joined(" · ")(p)


_ORDINALS = {"1": "st", "2": "nd", "3": "rd"}
_SHORT_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_ACCIDENTALS = {
    **dict.fromkeys(("flat", "b", "♭"), "♭"),
    **dict.fromkeys(("sharp", "#", "♯"), "♯"),
    **dict.fromkeys(("natural", "n", "♮"), "♮"),
    **dict.fromkeys(("doubleflat", "double flat", "bb"), "𝄫"),
    **dict.fromkeys(("doublesharp", "double sharp", "x", "##"), "𝄪"),
}
_SHOWS_FIRST = """
abbr abbrlink angle_bracket as_written big bigger center chem2 code dfn dropinitial em flag flagcountry flagu
formatnum formatnum: fmtn kbd larger lc: lcfirst: math mono mvar nastaliq no_italic nobold nobr nocaps noitalic
noitalics nospell not_a_typo nowrap nts proper_name samp sc script/arabic script/hebrew small smallcaps smaller strike
strong sub tooltip tq tt typo uc: ucfirst: underline unicode vanchor var visible_anchor nbr szám iast ruby ruby-ja
読み仮名 読み仮名_ruby不使用 ふりがな
"""
_SHOWS_SECOND = """
lang langue background_color color colour font_color font_colour fontcolor highlight wikt-lang script rtl-lang lang2
lang-rtl resize
"""
_SHOWS_LAST = "transl transliteration translit tlit"
_SHIPS = "uss hms ss rms hmas hmcs usns sms ins hmnzs"
_LISTS = "flatlist plainlist columns-list columns_list columnslist column_list col-list collist cmn"
_DASHES = {
    "–": "ndash en_dash endash –",
    "—": "mdash em_dash emdash —",
    " – ": "snd spaced_ndash spaced_en_dash snds spnd",
}
_SPACES = "nbsp spaces thinsp thin_space hair_space hairsp space spc nnbsp"
_DOTS = "· dot middot • bull bullet"
_MARKS = {
    "'": "' -' '-",
    "'s": "'s",
    '"': '" -" "-',
    "' \"": "'_\"",
    "\" '": "\"_'",
    "=": "= equals",
    "...": "... ellipsis …",
    "π": "pi",
    "×": "× times",
    "−": "minus",
    "er": "er ier",  # French ordinals
    "CO₂": "co2",
    "H₂O": "h2o",
}
_CURRENCIES = {
    "US$": "us$ usd",
    "€": "euro eur €",
    "£": "gbp £ pound_sterling",
    "¥": "jpy ¥ jpy_convert cny",
    "₹": "inr indian_rupee ₹",
    "A$": "a$ aud",
    "C$": "c$ cad",
}


def _names(words: str) -> list[str]:
    return [word.replace("_", " ") for word in words.split()]


TEMPLATES: dict[str, Render] = {
    **dict.fromkeys(_names(_SHOWS_FIRST), _shows(1)),
    **dict.fromkeys(_names(_SHOWS_SECOND), _shows(2)),
    **dict.fromkeys(_names(_SHOWS_LAST), _last),
    **dict.fromkeys(_names(_SHIPS), _ship),
    **{name: _always(dash) for dash, names in _DASHES.items() for name in _names(names)},
    **dict.fromkeys(_names(_SPACES), _always(" ")),
    **dict.fromkeys(_names(_DOTS), _always(" · ")),
    **{name: _always(mark) for mark, names in _MARKS.items() for name in _names(names)},
    **{name: _around(sign) for sign, names in _CURRENCIES.items() for name in _names(names)},
    **dict.fromkeys(_names("convert conversie conv"), units.convert),
    "cvt": units.convert_short,
    **dict.fromkeys(_names("unité nombre unidad"), units.with_unit),
    "val": units.val,
    **dict.fromkeys(("frac", "sfrac", "fraction"), _fraction),
    **dict.fromkeys(("e", "10^"), _power_of_ten),
    **dict.fromkeys(("sup", "superscript"), lambda p: superscript(p[1])),
    **dict.fromkeys(("chem", "gaps", "linktext"), _joined("")),
    **dict.fromkeys(("hlist", "ubl", "unbulleted list", "vunblist"), _joined(" · ")),
    **dict.fromkeys(_names(_LISTS), _list),
    **dict.fromkeys(_names("bulleted_list bulletedlist unordered_list ordered_list"), _joined("\n", "\n", "\n")),
    **dict.fromkeys(("bibleref", "bibleref2", "bibleverse", "bibleverse-nb", "sortname", "nom"), _joined(" ")),
    **dict.fromkeys(("date", "date-", "date de naissance", "date de décès"), _date),
    **dict.fromkeys(("key press", "keypress", "key", "keys"), _joined("+")),
    **dict.fromkeys(("angbr", "angle bracket"), _around("⟨", "⟩")),
    **dict.fromkeys(("ill", "interlanguage link", "仮リンク", "lien"), _interlanguage),
    **dict.fromkeys(("sic", "[sic]", "sic?"), _sic),
    **dict.fromkeys(_names("quote blockquote bquote quotation cquote poemquote zitat citation_bloc"), _quote),
    **dict.fromkeys(("nihongo", "nihongo2", "nihongo foot"), _nihongo),
    **dict.fromkeys(("zh", "zh-full", "lang-zh", "chinese"), _chinese),
    **dict.fromkeys(("percent", "percentage", "pct"), _percentage),
    **dict.fromkeys(("lit", "lit.", "literal translation", "literally"), _around("lit. ‘", "’")),
    **dict.fromkeys(("gloss", "gls"), _around("‘", "’")),
    "ordinal": _ordinal,
    "music": _music,
    "ship": _any_ship,
    "langx": _labelled_language,
    **french.TEMPLATES,
    **dates.TEMPLATES,
}


def render(body: str, wiki: str = "") -> str | None:
    """The text that a template shows, given what is between its braces; None for one that is not in the table.

    Args:
        wiki: the language of the wiki; names of languages are shown where it is English, or unknown; numbers are
            grouped where it is English.
    """
    p, english = Parameters.parse(body), wiki in ("en", "simple")
    if p.name.startswith("lang-") and p.name not in TEMPLATES:
        text = p[1] or p["text"]
        return _language(p.name.removeprefix("lang-"), text) if english or not wiki else text
    if p.name == "formatnum:" and english and p[2].upper() != "R":
        return units.grouped(p[1])
    template = TEMPLATES.get(p.name)
    shown = french.by_name(p.name) if template is None else template(p)
    return shown or None  # one that shows nothing is like one that is not known
