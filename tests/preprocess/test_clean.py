"""Cleaners, each on the constructs it must take out and on those it must keep."""

import re
import sys
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.clean import clean, gutenberg, markdown, mojibake, unbroken, unicode
from preprocess.clean.errors import UncleanableError
from preprocess.config import CleanConfig
from preprocess.records import Markup


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("e\u0301", "\xe9"),
        ("a\u200bb\xadc\ufeff\x07", "abc"),
        (" a \t\xa0b  \n\n\n\n  c ", "a b\n\nc"),
        ("a\u2581b", "a b"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_unicode(raw: str, text: str) -> None:
    assert unicode.normalise(raw) == text


@given(st.text(), st.sampled_from(["NFC", "NFKC"]))
def test_unicode_is_idempotent(text: str, form: str) -> None:
    once = unicode.normalise(text, form)  # type: ignore[arg-type]
    assert unicode.normalise(once, form) == once  # type: ignore[arg-type]
    assert unicodedata.is_normalized(form, once)  # type: ignore[arg-type]
    assert not any(unicodedata.category(character) == "Cc" for character in once.replace("\n", ""))


WHITE = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]


@given(st.lists(st.sampled_from([*WHITE, " ", "\n", "\r\n", "\r", unicode.META, "a", "é", "\u200b"])).map("".join))
def test_white_space(raw: str) -> None:
    text = re.sub(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", raw).replace("\u200b", "")
    text = re.sub(" {2,}", " ", re.sub(rf"[^\S\n ]|{unicode.META}", " ", text))
    text = re.sub("\n{3,}", "\n\n", text.replace(" \n", "\n").replace("\n ", "\n")).strip()
    assert unicode.normalise(raw) == text


def test_no_other_white_space_is_left() -> None:
    for character in WHITE:
        assert unicode.normalise(f"a{character}b") in ("a b", "a\nb")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Dummköpfe, “schön” – naïve café’s", "sloppy-windows-1252"),
        ("Ça va à l’école", "latin-1"),
        ("Привет, мир", "windows-1251"),
        ("„Nur Dummköpfe“", "mac-roman"),
        ("東京タワー", "latin-1"),
    ],
)
def test_broken_encodings_are_repaired(text: str, encoding: str) -> None:
    broken = f"‘fine’ é\n{text.encode().decode(encoding)}\r\nﬁne"
    assert clean(broken, "plain") == (f"‘fine’ é\n{text}\nﬁne", {"mojibake": 1})
    left = clean(broken, "plain", CleanConfig(fix_encoding=False))
    assert text not in left.text
    assert "mojibake" not in left.removed


@given(st.text(alphabet="aÃÄÂ©\x84\x80é’–\n"))
def test_wrong_encodings_are_seen_wherever_they_stand(text: str) -> None:
    lines = [mojibake.repair(line, Counter()) for line in text.split("\n")]
    assert mojibake.repair(text, Counter()) == "\n".join(lines)


@given(st.text(alphabet="ab \n本", max_size=40).map(unicode.normalise), st.integers(1, 12))
def test_the_longest_run_without_white_space(text: str, most: int) -> None:
    if max(map(len, text.split()), default=0) <= most:
        return unbroken.check(text, most)
    with pytest.raises(UncleanableError):
        unbroken.check(text, most)


@given(st.text(alphabet="aeiou äöüßéèçñåøæœěšřžýłńąęőğışțâî", max_size=60))
def test_broken_encodings_of_any_latin_text(text: str) -> None:
    line = f"Ünïcødé “text” {text}"
    assert clean(line.encode().decode("latin-1"), "plain").text == unicode.normalise(line)


@pytest.mark.parametrize(
    "marks", ["\u0301\u0323", "\u0301\u200b\u0323", "\u0f73", "&#769;&#803;", "\u0301\u0323".encode().decode("latin-1")]
)
@pytest.mark.parametrize("before", [0, 1, 49])
def test_a_long_run_of_combining_marks_is_refused(marks: str, before: int) -> None:
    begin = time.process_time()
    with pytest.raises(UncleanableError, match=r"^over 100 combining marks in a row, from character \d+ on$"):
        clean("a" * before + "Ã©" + marks * 40_000, "wikitext")
    assert time.process_time() - begin < 2  # sorted, they take ten seconds
    with pytest.raises(UncleanableError):
        clean("a" * before + marks * 101, "wikitext")


def test_combining_marks_of_languages_stay() -> None:
    text = "a" + "\u0323" * 100 + "b"
    assert len(clean(text, "plain").text) == 101
    assert clean("שָׁלוֹם עֲלֵיכֶם " * 100, "plain").text.count("ש") == 100


def test_markdown_has_entities_with_their_semicolon_alone() -> None:
    assert clean("&eacute; &notable; &copy=1 &#233;", "markdown").text == "é &notable; &copy=1 é"


def test_control_characters_are_counted() -> None:
    assert clean("a\x00b\x07\ufeff\r\nc", "plain") == ("ab\nc", {"control characters": 3})


def test_markdown() -> None:
    raw = (
        "# A *Play*\n\n**NAME**  \nFirst verse,  \nsecond _verse_.\n\nSoft\nwrap with `code`.\n\n* item\n* item two\n\n"
        "> quote\n\n---\n\n_\\[Aside]_ x [link](http://a) ![alt](b.png) snake_case_name 2 * 3\n\n```\nfence\n```\n"
    )
    assert clean(raw, "markdown").text == (
        "A Play\n\nNAME\nFirst verse,\nsecond verse.\n\nSoft wrap with code.\n\nitem\nitem two\n\n"
        "quote\n\n[Aside] x link alt snake_case_name 2 * 3\n\nfence"
    )


@pytest.mark.parametrize("markup", ["markdown", "book", "plain"])
def test_no_text_takes_long(markup: Markup) -> None:
    pieces = [
        "[",
        "![",
        "[a][",
        "[a](",
        "<!--",
        "<a",
        " _a",
        "*a",
        "**",
        "`",
        "`a",
        "\\",
        "a\n",
        "- ",
        "# ",
        "|",
        "> ",
        "1. ",
    ]
    for piece in [*pieces, "\n", " \n", "\x00", "Ã", "â€", "Ð°", "___ ", "a  \n", "--> <!--"]:
        begin = time.process_time()
        clean(piece * (100_000 // len(piece)), markup)
        assert time.process_time() - begin < 2, piece  # a tenth of that on a free core


def test_markdown_hard_breaks_with_any_line_end() -> None:
    assert markdown.mark_hard_breaks("a  \r\nb  \nc") == "a\\\r\nb\\\nc"


def test_gutenberg() -> None:
    raw = (
        "The Project Gutenberg eBook of X\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nProduced by Y\n\n"
        + "It was a long paragraph that had been\nwrapped at some width by a careful\nhand.\n\n" * 5
        + "A short verse,\nand another.\nEnd.\n\n"
        + "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nLicence"
    )
    assert clean(raw, "book").text == (
        "It was a long paragraph that had been wrapped at some width by a careful hand.\n\n" * 5
        + "A short verse,\nand another.\nEnd."
    )


def test_gutenberg_credits_and_notes_at_the_beginning() -> None:
    begin, end = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "*** END OF THIS PROJECT GUTENBERG EBOOK X ***"
    credits = [
        "E-text prepared by A and B\nand C",
        "Note: Project Gutenberg also has an HTML version of this\nfile.\n(http://www.gutenberg.org/x.htm)",
        "Images of the original pages are available through\nthe archive. See\nhttps://archive.example/x",
        "This etext was prepared by volunteers.",
        "This ebook was transcribed by C.",
        "Transcribed by D, email d@example.org",
        "Transcribed from the 1886 E & F edition by G, email\ng@example.org",
    ]
    story = "TITLE\n\nThis etext of hers, " + "the story. " * 60
    raw = "\n\n".join(["The Project Gutenberg EBook of X", begin, *credits, story, end, "Licence."])
    assert clean(raw, "book").text == story.strip()


@pytest.mark.parametrize(
    "note",
    [
        "[Transcriber's Note: One paragraph, with [=e].]",
        "[Transcriber’s note:\n\nTwo paragraphs,\n\nor [three].]",
        "+------+\n| |\n| Transcribers' Notes: |\n| boxed |\n+------+",
        "|Transcriber Note: |\n|boxed |",
    ],
)
@pytest.mark.parametrize(
    "place", ["{note}\n\nProduced by A\n\n{story}", "Produced by A\n\n{note}\n\n{story}", "{story}\n\n{note}"]
)
def test_notes_of_transcribers_are_removed(note: str, place: str) -> None:
    begin, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    story = "[A note.]\n\n" + "Of [sic] the story.\n\n" * 40 + "End."
    raw = f"The Project Gutenberg eBook of X\n\n{begin}\n\n{place.format(note=note, story=story)}\n\n{end}\nLicence"
    assert clean(raw, "book").text == story


@pytest.mark.parametrize(
    "text",
    [
        "[Transcriber's note: x] Here the story [goes] on. [y]",
        "[Transcriber's note: never closed" + "\n\nstory" * 30 + "]",
        "| Transcriber's note |\nand the story.",
        "The transcriber's note was short.",
        "Transcribed from the wall, the verse ran. It was an old edition.",
    ],
)
def test_text_that_is_no_note_stays(text: str) -> None:
    begin, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    assert gutenberg.strip_boilerplate(f"{begin}\n\n{text}\n\nThe end.\n\n{end}") == f"{text}\n\nThe end."


@pytest.mark.parametrize("piece", ["|", "[", "+-|\n", "[Transcriber's Note: a\n\n", "Produced by A\n\n"])
def test_no_notes_take_long(piece: str) -> None:
    text = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n" + piece * (100_000 // len(piece))
    begin = time.process_time()
    gutenberg.strip_boilerplate(text)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("raw", "share"),
    [
        ("The Project Gutenberg EBook of X\n\n" + "word " * 2000, "100.0%"),
        (
            "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n"
            + "a\n" * 9
            + "End of Project Gutenberg's X\n"
            + "b " * 999,
            "0.8%",
        ),
    ],
)
def test_a_gutenberg_book_without_its_marks_is_refused(raw: str, share: str) -> None:
    with pytest.raises(UncleanableError, match=rf"^{share} of the book would be left .*expected 50% to 99\.9%$"):
        clean(raw, "book")
    assert clean(raw.replace("Gutenberg", "Johannes").replace("GUTENBERG", "J"), "book")  # any other book is kept


@given(st.text(alphabet="ab \n", max_size=80))
def test_unwrap_changes_nothing_but_line_ends(text: str) -> None:
    assert gutenberg.unwrap(text).split() == text.split()
