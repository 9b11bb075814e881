"""Filters: each rule at its threshold, on texts that are made to be just inside or outside."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.corpus.inspect_corpus import print_stats
from pipeline.corpus.shards import Corpus
from pipeline.errors import DigestError
from preprocess.clean.unicode import normalise
from preprocess.config import C4Config, FilterConfig, GopherQualityConfig, GopherRepetitionConfig
from preprocess.filters import c4, gopher_quality, gopher_repetition, judge
from preprocess.run import run
from preprocess.shares import over, under
from tests.conftest import flip_byte
from tests.preprocess.small import prose, small_config, write_raw

STOPS = "the matter of it "
NO_LINES = {
    "duplicate_lines": 1,
    "duplicate_line_characters": 1,
    "duplicate_paragraphs": 1,
    "duplicate_paragraph_characters": 1,
}


def different(number: int, begin: int = 0) -> list[str]:
    """As many different words of six letters."""
    return [
        "".join(chr(97 + (n // 26**k) % 26) for k in range(6)) for n in range(begin * 997, (begin + number) * 997, 997)
    ]


def filters(**sections: Any) -> FilterConfig:
    return FilterConfig.model_validate_json(json.dumps({"min_characters": 1, **sections}))


def refuse(text: str, source: str, config: FilterConfig) -> tuple[str, str] | None:
    return judge(text, source, config).refusal


def quality(text: str, **limits: Any) -> str | None:
    refusal = gopher_quality.refuse(text, GopherQualityConfig(**limits))
    return refusal[0] if refusal else None


@pytest.mark.parametrize(
    ("inside", "outside", "rule"),
    [
        (STOPS + "word " * 46, STOPS + "word " * 45, "gopher-words"),
        (STOPS + "word " * 99_996, STOPS + "word " * 99_997, "gopher-words"),
        ("the of that " + "abc " * 48, "the of that a " + "abc " * 48, "gopher-word-length"),
        ("the of " + f"{'x' * 10} " * 97 + "x" * 25, "the of " + f"{'x' * 10} " * 97 + "x" * 26, "gopher-word-length"),
        (STOPS + "word " * 86 + "#tag " * 10, STOPS + "word " * 85 + "#tag " * 11, "gopher-symbols"),
        (STOPS + "so... " * 10 + "word " * 86, STOPS + "so… " * 11 + "word " * 85, "gopher-symbols"),
        (
            STOPS + "alone\n" + "• another item of lists\n" * 9,
            STOPS + "alone\n" + "• another item of lists\n" * 10,
            "gopher-bullets",
        ),
        (
            (STOPS + "and that concerned them\n") * 7 + "Everything goes on...\n" * 3,
            (STOPS + "and that concerned them\n") * 15 + "Everything goes on …\n" * 7,
            "gopher-ellipses",
        ),
        (STOPS + "word " * 76 + "1984 " * 20, STOPS + "word " * 75 + "1984 " * 21, "gopher-alphabetic"),
        ("(The) and? " + "word " * 50, "the The " + "word " * 50, "gopher-stop-words"),
    ],
)
def test_gopher_quality_at_the_published_limits(inside: str, outside: str, rule: str) -> None:
    assert quality(inside) is None
    assert quality(outside) == rule


def test_a_limit_can_be_changed_and_what_was_found_is_told() -> None:
    text = STOPS + "word " * 16
    assert quality(text) == "gopher-words"
    assert quality(text, min_words=20) is None
    assert gopher_quality.refuse(text, GopherQualityConfig()) == (
        "gopher-words",
        "20 words, expected 50 to 100000",
    )


def repetition(text: str, **limits: Any) -> str | None:
    refusal = gopher_repetition.refuse(text, GopherRepetitionConfig(**limits))
    return refusal[0] if refusal else None


@pytest.mark.parametrize(("between", "what"), [("\n", "line"), ("\n \n", "paragraph")])
def test_duplicate_lines_and_paragraphs(between: str, what: str) -> None:
    only = {**NO_LINES, "top_ngram": {}, "duplicate_ngrams": {}}
    parts = [*different(7), "ab", "ab", "ab", "ab"]  # 3 of 11 are repeated, 6 of 50 characters
    text = between.join(parts)
    assert repetition(text, **{**only, f"duplicate_{what}s": 0.28, f"duplicate_{what}_characters": 0.12}) is None
    assert repetition(text, **{**only, f"duplicate_{what}s": 0.27}) == f"gopher-duplicate-{what}s"
    found = repetition(text, **{**only, f"duplicate_{what}_characters": 0.11})
    assert found == f"gopher-duplicate-{what}-characters"


def test_published_shares_of_repetition() -> None:
    config = GopherRepetitionConfig()
    shares = [config.duplicate_lines, config.duplicate_paragraphs]
    shares += [config.duplicate_line_characters, config.duplicate_paragraph_characters]
    assert shares == [0.3, 0.3, 0.2, 0.2]
    assert config.top_ngram == {2: 0.2, 3: 0.18, 4: 0.16}
    assert config.duplicate_ngrams == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}


@pytest.mark.parametrize(("between", "what"), [("\n", "line"), ("\n \n", "paragraph")])
def test_a_share_that_is_the_limit_is_kept_and_one_more_refused(between: str, what: str) -> None:
    only = {**NO_LINES, "top_ngram": {}, "duplicate_ngrams": {}}
    for hundredths in range(1, 100):
        limit, again = hundredths / 100, between.join(["again"] * (hundredths + 1))
        text = between.join([*different(99 - hundredths), again])
        assert text.count(between) == 99
        assert repetition(text, **{**only, f"duplicate_{what}s": limit}) is None, limit
        found = repetition(f"{text}{between}again", **{**only, f"duplicate_{what}s": limit})
        assert found == f"gopher-duplicate-{what}s", limit


@given(st.integers(1, 10**4), st.integers(1, 10**4), st.sampled_from([1, 10, 10**4, 10**9]))
def test_shares_are_compared_as_the_decimal_numbers_that_were_written(part: int, whole: int, scale: int) -> None:
    limit = float(f"{part / 10**4:.4f}")  # part of 10,000
    assert not over(part * whole * scale, 10**4 * whole * scale, limit)
    assert not under(part * whole * scale, 10**4 * whole * scale, limit)
    assert over(part * whole * scale + 1, 10**4 * whole * scale, limit)
    assert under(part * whole * scale - 1, 10**4 * whole * scale, limit)


def ngrams(text: str, **limits: Any) -> str | None:
    return repetition(text, **{**NO_LINES, "top_ngram": {}, **limits})


@pytest.mark.parametrize("n", range(2, 11))
def test_an_ngram_rule_sees_its_own_length_and_no_longer_one(n: int) -> None:
    again = " ".join(different(n, 9000))
    text = "\n".join(f"{again} {' '.join(different(2 * n, 50 * i))}" for i in range(20))  # a third of the text
    assert ngrams(text, duplicate_ngrams={}, top_ngram={n: 0.33}) == f"gopher-top-{n}-gram"
    assert ngrams(text, duplicate_ngrams={}, top_ngram={n: 0.34}) is None
    assert ngrams(text, duplicate_ngrams={n: 0.31}) == f"gopher-duplicate-{n}-grams"
    assert ngrams(text, duplicate_ngrams={n: 0.32}) is None  # the first of them is no duplicate
    assert ngrams(text, duplicate_ngrams={n + 1: 0}, top_ngram={n + 1: 0}) is None
    assert ngrams(text) == (None if n < 5 else "gopher-duplicate-5-grams")


def plain_share(words: list[str], n: int, top: bool) -> float:
    """What the rules measure, as one would write it down."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    most = max(grams, key=lambda gram: (grams.count(gram), -grams.index(gram)), default=None)
    if top:
        places = [i for i, gram in enumerate(grams) if gram == most and grams.count(gram) > 1]
    else:
        places = [i for i, gram in enumerate(grams) if gram in grams[:i]]
    covered = {i + k for i in places for k in range(n)}
    characters = [len(word) + (i + 1 < len(words)) for i, word in enumerate(words)]
    return sum(characters[i] for i in covered) / max(sum(characters), 1)


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), max_size=40), st.integers(2, 6), st.booleans())
def test_shares_of_ngrams_are_those_of_a_plain_count(words: list[str], n: int, top: bool) -> None:
    expected = plain_share(words, n, top)
    key, other = ("top_ngram", "duplicate_ngrams") if top else ("duplicate_ngrams", "top_ngram")
    for limit, refused in ((expected + 1e-9, False), (expected - 1e-9, True)):
        if 0 <= limit <= 1:
            text = " ".join(words)
            found = ngrams(text, **{key: {n: limit}, other: {}})
            assert (found is not None) == refused


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    everything = filters(gopher_quality={"min_words": 0}, gopher_repetition={}, c4={"min_sentences": 0})
    judge(text, "web", everything)
    kept, removed = c4.keep_lines(text, C4Config())
    assert c4.keep_lines(kept, C4Config()) == (kept, {}) or "[" in kept
    assert len(removed) == 0 or len(kept) < len(text)


LINES = {
    "It has five words only.": None,
    'She said: "I will go."': None,
    "Il n’en sait rien du tout »": None,
    "道可道，非常道。": None,
    "A headline has no full stop": "c4-line-end",
    "And so it goes on for ever...": "c4-line-end",
    "Four words are few.": "c4-line-words",
    "道可道。": "c4-line-words",
    f"One long word is {'x' * 1001}": "c4-line-end",
    f"One long word is {'x' * 1000}.": "c4-long-word",
    f"One long word is {'x' * 999}.": None,
    "道" * 2000 + "。": None,
    "Please enable JavaScript to see it.": "c4-javascript",
    "This site uses cookies for your good.": "c4-policy",
    "Read our Privacy Policy to the end.": "c4-policy",
}


@pytest.mark.parametrize(("line", "rule"), LINES.items())
def test_lines_of_c4(line: str, rule: str | None) -> None:
    good = "This is a line that stays."
    text, removed = c4.keep_lines(f"{good}\n\n{line}\n\n{good}", C4Config())
    assert removed == ({rule: 1} if rule else {})
    assert text == (f"{good}\n\n{good}" if rule else f"{good}\n\n{line}\n\n{good}")


def test_citation_marks_leave_single_spaces() -> None:
    text = "[1] It [2] was so [3] [4][5]. And then [citation needed] no more.\nNot this one[6] nor that [edit]."
    kept = c4.keep_lines(text, C4Config())[0]
    assert kept == "It was so. And then no more.\nNot this one nor that."
    assert kept == normalise(kept)


def test_words_on_both_sides_of_citation_marks_stay_apart() -> None:
    text = "It was [1]so and [2] [edit]so, he said [3]“No” and [4]1,000[5]. Or (if [6]) not."
    kept, removed = c4.keep_lines(text, C4Config())
    assert kept == "It was so and so, he said “No” and 1,000. Or (if) not."
    assert removed == {"c4-citation": 7}


@given(st.lists(st.sampled_from(["a", ".", " ", "\n", "[1]", "[edit]", "[", "(", ")", "…", "本"]), max_size=30))
def test_what_c4_leaves_is_still_a_cleaned_text(pieces: list[str]) -> None:
    kept = c4.keep_lines(normalise("".join(pieces)), C4Config(min_line_words=1))[0]
    assert kept == normalise(kept)


def test_citation_marks_and_changed_limits_of_c4() -> None:
    text = "It was so.[12] And then no more.[citation needed]\nNot [that] one?[edit]"
    assert c4.keep_lines(text, C4Config(min_line_words=3)) == (
        "It was so. And then no more.\nNot [that] one?",
        {"c4-citation": 3},
    )
    assert c4.keep_lines(text, C4Config())[1] == {"c4-citation": 3, "c4-line-words": 1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("There is one. There are two. There are three.", None),
        ("This is the only line.\n\nThis is the second line.\nAnd this is a third.", None),
        ("This is the only line.\n\nThere is another; no more.", "c4-sentences: 2 sentences"),
        ("No sentence\nA headline", "c4-sentences: 0 sentences"),
        ("The code is {x} for you. It is here. It works.", "c4-curly-bracket: a curly bracket at character 12"),
        ("We begin Lorem ipsum dolor. It is here. It works.", "c4-lorem-ipsum: “lorem ipsum” at character 9"),
        ("A headline with {\nThere is one. There are two. There are three.", None),
    ],
)
def test_pages_of_c4(text: str, found: str | None) -> None:
    refusal = judge(text, "web", filters(c4={})).refusal
    assert (": ".join(refusal).partition(",")[0].partition(" in the lines")[0] if refusal else None) == found


def test_length_is_that_of_the_lines_that_are_left() -> None:
    text = "A headline that is longer than what follows\nThere is one. There are two. There are three."
    limits: dict[str, Any] = {"c4": {"sources": ["web"]}, "min_characters": 60}
    assert refuse(text, "web", filters(**limits)) == ("too-short", "45 characters, expected at least 60")
    assert refuse(text, "books", filters(**limits)) is None


def test_lengths() -> None:
    assert refuse("", "any", filters()) == ("empty", "nothing is left after cleaning")
    for limits, rule in (
        ({"min_characters": 8}, "too-short"),
        ({"max_characters": 6}, "too-long"),
        ({"min_words": 3}, "too-few-words"),
        ({"max_words": 1}, "too-many-words"),
    ):
        refusal = refuse("two ten", "any", filters(**limits))
        assert refusal is not None
        assert refusal[0] == rule
    exact = {"min_characters": 7, "max_characters": 7, "min_words": 2, "max_words": 2}
    assert refuse("two ten", "any", filters(**exact)) is None


def test_rules_are_off_unless_asked_for_and_can_be_for_some_sources() -> None:
    text = "Hey! " * 60
    assert refuse(text, "web", filters()) is None
    for section, rule in (("gopher_quality", "gopher-stop-words"), ("gopher_repetition", "gopher-top-2-gram")):
        found = refuse(text, "web", filters(**{section: {}}))
        assert found is not None
        assert found[0] == rule
        assert refuse(text, "web", filters(**{section: {"sources": ["books"]}})) is None
        assert refuse(text, "books", filters(**{section: {"sources": ["books"]}})) is not None


def test_refused_documents_are_dead_letters_with_rule_and_numbers(tmp_path: Any) -> None:
    write_raw(tmp_path / "raw")
    with (tmp_path / "raw" / "lines.jsonl").open("a") as file:
        file.write(json.dumps({"id": "again", "text": prose(999, 5) * 4}) + "\n")
    config = small_config(
        tmp_path / "raw",
        tmp_path / "corpus",
        filter={"gopher_quality": {"min_stop_words": 0}, "gopher_repetition": {"sources": ["lines"], "top_ngram": {}}},
        dead_letters={"max_share": 0.2},  # of these, a refused document is none
    )
    corpus = run(config)
    assert Corpus(corpus).manifest["counts"]["sources"]["lines"]["dead_letters"] == {
        "gopher-duplicate-5-grams": 1,
        "no-text": 1,
        "too-short": 1,
    }
    letters = map(json.loads, (corpus / "dead-letters" / "lines.jsonl").read_text().splitlines())
    found = next(letter for letter in letters if letter["stage"] == "filter" and letter["rule"].startswith("gopher"))
    assert found["id"] == "lines/lines.jsonl#11:again"
    assert found["error"].endswith("% of characters are in repeated 5-grams, expected at most 15.0%")
    console = Console(width=200, record=True, soft_wrap=True, file=io.StringIO())
    print_stats(Corpus(corpus), console)
    shown = console.export_text()
    assert f"{found['id']}: {found['error']}" in shown
    flip_byte(corpus / "dead-letters" / "lines.jsonl", 3)
    with pytest.raises(DigestError, match=r"dead-letters/lines\.jsonl: SHA-256"):
        print_stats(Corpus(corpus), console)


def test_rules_for_a_source_that_there_is_not(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"filter.gopher_quality.sources: found 'book'; did you mean 'books'?"):
        small_config(tmp_path, tmp_path / "corpus", filter={"gopher_quality": {"sources": ["book"]}})


def test_removed_lines_are_counted_and_not_in_the_corpus(tmp_path: Any) -> None:
    write_raw(tmp_path / "raw")
    rules = {"c4": {"sources": ["books"], "min_line_words": 3, "min_sentences": 1}}
    corpus = Corpus(run(small_config(tmp_path / "raw", tmp_path / "corpus", filter=rules)))
    counts = corpus.manifest["counts"]
    assert counts["sources"]["books"]["removed"] == {"c4-line-end": 4}  # two titles, two lines of a play
    assert not any(rule.startswith("c4") for rule in counts["sources"]["wikipedia"]["removed"])
    assert counts["kept"] == 25
