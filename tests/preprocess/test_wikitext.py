"""Wikitext: what a reader sees stays, what no reader reads as prose goes, and no page takes long."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.clean import clean
from preprocess.clean.errors import UncleanableError
from preprocess.config import CleanConfig
from preprocess.records import Wiki


def wikitext(raw: str) -> str:
    return clean(raw, "wikitext").text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("'''Bold''' and ''italic''.", "Bold and italic."),
        ("a{{b|{{c}}|d={{e|{{f}}}}}} g", "a g"),
        ("see [[target|the words]] and [[Plain]]s", "see the words and Plains"),
        ("[[File:a.jpg|thumb|A [[nested]] caption with {{x}}]]After", "After"),
        ("text<ref name=a>{{cite|b}}</ref> more<ref name=a /> end", "text more end"),
        ("[[Category:Things]]\n[[fr:Chose]]\nx", "x"),
        ("before\n{| class=x\n|-\n| a || {{b}}\n{|\n| inner\n|}\n|}\nafter", "before\n\nafter"),
        ("about {{convert|5|km|mi}} away", "about 5 kilometres away"),
        ("<nowiki>{{kept}}</nowiki> &amp; <!-- gone {{ -->x", "{{kept}} & x"),
        ("l<nowiki>'</nowiki>''Équipe'', l'<nowiki/>''Équipe''", "l'Équipe, l'Équipe"),
        ("dell<nowiki>'</nowiki>uomo", "dell'uomo"),
        ("<nowiki>[</nowiki>sic<nowiki>]</nowiki>", "[sic]"),
        ("<nowiki>* | == <b> &eacute;</nowiki>\n{{lang|de|<nowiki>a=b|c</nowiki>}}", "* | == <b> é\na=b|c"),
        ("[http://example.org words]", "words"),
        ("a (; {{x}}) b ({{y}}) c", "a b c"),
        ("== H ==\ntext\n== References ==\n* a\n=== Sub ===\nb\n== Next ==\nc", "H\n\ntext\n\nNext\n\nc"),
        ("=== A ==\ntext\n====== B ======= \nmore\n== no", "= A\n\ntext\n\nB =\n\nmore\n== no"),
        ("a<b, 1 < 2 &lt;c <b>bold</b> <u>not closed", "a<b, 1 < 2 <c bold not closed"),
        ("== Empty ==\n== Full ==\ntext", "Full\n\ntext"),
        ("open {{never closed\nthe rest stays", "open the rest stays"),
        ("stray }} and ]] closers", "stray and closers"),
        ("<ref>never closed, text stays", "never closed, text stays"),
        ("<math>x^{2}</math>y", "y"),
        ("* one\n** two\n# three", "one\ntwo\nthree"),
        ("__NOTOC__x {{DEFAULTSORT:Y, X}}", "x"),
        ("a<br />b<p>c</p>d", "a\nb\nc\nd"),
        ("10<sup>6</sup> m<sup>2</sup>, 1<sup>st</sup>, H<sub>2</sub>O", "10⁶ m², 1st, H2O"),
        ("<table><tr><td><table><tr></table>a</table>b", "b"),
        ("<table>a<table>b</table> c", "c"),
        ("<gallery>\nFile:a.jpg|words\n</gallery>x", "x"),
        ("[[Datei:a.jpg|mini|Worte]][[Whatever:b.svg|c]][[:File:d.png|shown]]", "shown"),
        ("[[:Category:Things]] and [[wikt:word|words]]", "Category:Things and words"),
        ("[http://a.org] [//b.org b] [mailto:c@d c [1] d] [e] http://f.org", "b c [1] d [e] http://f.org"),
        ("[http://never.closed\n&#65;&eacute;&nosuch; &#99999999;", "http://never.closed\nAé&nosuch; &#99999999;"),
        ("&notanentity; &notin; &copycat;", "&notanentity; ∉ &copycat;"),
        ("a (''{{IPA|x}}''; 1900) (, {{x}}) (1900, {{y}}), b （{{z}}，）", "a (1900) (1900), b"),
        ("a ( {{x}} b; {{y}} ) c", "a (b) c"),
        (
            "十六个-{zh-hans:联邦州; zh-hant:邦}-之一，联-{}-邦，-{A|zh-tw:瀏覽;zh-cn:浏览}-",
            "十六个联邦州之一，联邦，浏览",
        ),
        ("-{H|zh-cn:甲;zh-tw:乙}-丙-{T|zh:丁}-，56 -{km}- [[戊|-{zh-hk:己}-]]", "丙，56 km 己"),
        ("!Kung people\n! header\n| row\n|}", "!Kung people"),
        ("----\nafter a rule", "after a rule"),
        ("{<ref/>{a}<ref/>}", ""),
    ],
)
def test_wikitext(raw: str, text: str) -> None:
    assert wikitext(raw) == text


_PIECES = [
    "{{",
    "}}",
    "[[",
    "]]",
    "{|",
    "|}",
    "\n",
    "|",
    "a b",
    "<ref>",
    "</ref>",
    "<ref/>",
    "'''",
    "==",
    "[",
    "]",
    "<!--",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=40))
def test_wikitext_leaves_no_marks_whatever_is_left_open(pieces: list[str]) -> None:
    text = wikitext("".join(pieces))
    assert not any(mark in text for mark in ("{{", "}}", "<ref", "[[", "]]"))


_HOSTILE = [
    "{{a|",
    "[[File:",
    "[[a|",
    "<ref>",
    "{|\n",
    "}}",
    "<!-- ",
    "'''",
    "<nowiki>",
    "{{a}} ",
    "==",
    "== ",
    "=\n",
    "( ",
]
_HOSTILE += ["(, ", "[", "[http://a ", "<b>", "<b", "</b>", "&", "&#", "* ", "__A", "\n|", " ", "\n ", "http://a"]
_HOSTILE += [
    "{|\n|-\n",
    "{{a|[[b|",
    "[[{|\n<ref>{{",
    "<table>",
    "<ref name=",
    "&#1",
    "-{",
    "<sup>1",
    "(([",
    "''[[a]]''",
    "==a\n",
]
_HOSTILE += ["<!<!---->--", "<<b>b>", "[http://a [http://b] ", "{{{a", "\n{"]


def seconds(raw: str) -> float:
    """What a page takes that becomes a text or a dead letter."""
    begin = time.process_time()
    try:
        clean(raw, "wikitext")
    except UncleanableError as error:
        assert error.rule == "too-deep"  # noqa: PT017
    return time.process_time() - begin


@pytest.mark.parametrize("piece", _HOSTILE)
def test_wikitext_takes_linear_time_on_hostile_pages(piece: str) -> None:
    assert seconds("==" + piece * (100_000 // len(piece)) + " x") < 2  # a tenth of that on a free core


@pytest.mark.parametrize(
    ("opener", "closer"), [("{{nowrap|", "}}"), ("[[a|", "]]"), ("<ref>", "</ref>"), ("<b>", "</b>")]
)
def test_wikitext_takes_linear_time_on_deep_nesting(opener: str, closer: str) -> None:
    assert seconds(opener * 20_000 + "x" * 100_000 + closer * 20_000) < 2


@given(st.lists(st.sampled_from(_HOSTILE), min_size=1, max_size=6), st.integers(min_value=1, max_value=2_000))
def test_wikitext_of_hostile_pieces_is_text_or_too_deep(pieces: list[str], times: int) -> None:
    assert seconds("".join(pieces) * times) < 2


@pytest.mark.parametrize(
    "page",
    [
        "{{convert|1" + "|to|1" * 200_000 + "|km}}",
        "{{convert|1|ft" + "|1|in|1|ft" * 100_000 + "}}",
        "{{convert|1|mi|1" + "|yd|1|ft|1" * 100_000 + "}}",
        "{{convert|1|ft|" + "1" * 100_000 + "x|in}}",
    ],
)
def test_wikitext_takes_linear_time_on_long_quantities(page: str) -> None:
    assert seconds(page) < 2


def test_wikitext_nested_too_deep_is_refused() -> None:
    assert wikitext("{{nowrap|" * 100 + "x" + "}}" * 100) == "x"
    with pytest.raises(UncleanableError, match=r"^over 100 templates, tables and links in one another$"):
        clean("{{nowrap|" * 101 + "x" + "}}" * 101, "wikitext")


def test_headings_can_be_dropped() -> None:
    raw = "intro\n== A ==\ntext\n=== B ===\nmore"
    assert clean(raw, "wikitext", CleanConfig(headings="keep")).text == "intro\n\nA\n\ntext\n\nB\n\nmore"
    dropped = clean(raw, "wikitext", CleanConfig(headings="drop"))
    assert dropped.text == "intro\n\ntext\n\nmore"
    assert dropped.removed == Counter(headings=2)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Literature\n\na\n\nSources\n\nb\n\nNote\n\nc\n\nLiteratur\n\nd"),
        ("simple", "Literature\n\na\n\nSources\n\nb\n\nNote\n\nc\n\nLiteratur\n\nd"),
        ("de", "Literature\n\na\n\nSources\n\nb\n\nNote\n\nc\n\nReferences\n\ne"),
        ("it", "Literature\n\na\n\nSources\n\nb\n\nLiteratur\n\nd\n\nReferences\n\ne"),
        ("", "Literature\n\na\n\nSources\n\nb"),
        ("et", "Literature\n\na\n\nSources\n\nb"),
    ],
)
def test_sections_of_references_are_called_as_the_language_calls_them(language: str, text: str) -> None:
    raw = "== Literature ==\na\n== Sources ==\nb\n== Note ==\nc\n== Literatur ==\nd\n== References ==\ne"
    assert clean(raw, "wikitext", wiki=Wiki(language)).text == text


def test_a_wiki_names_its_files_and_categories() -> None:
    raw = "a[[Pildi:x|thumb|b]] [[Kategooria:c]]"
    assert clean(raw, "wikitext", wiki=Wiki("et", frozenset({"pildi"}), frozenset({"kategooria"}))).text == "a"
    assert "Kategooria" in wikitext(raw)


def test_what_was_removed_is_counted() -> None:
    raw = (
        "<!-- c -->a<ref>r</ref><ref name=b /> {{infobox|{{x}}}} {{convert|5|km}}\n{| t\n| c\n|}\n[[File:a.png|b]]"
        "[[Category:d]][[fr:e]]<math>f</math><b>g</b> ({{y}}) __NOTOC__[http://h]\n==i==\n==References==\nj"
    )
    assert clean(raw, "wikitext").removed == {
        "comments": 1,
        "references": 2,
        "templates": 3,
        "tables": 1,
        "files": 1,
        "categories": 1,
        "interlanguage links": 1,
        "formulas": 1,
        "tags": 2,
        "empty brackets": 1,
        "magic words": 1,
        "external links": 1,
        "sections": 1,
        "headings": 1,
    }
