"""The rules of sentence ends, and that no character but spaces is lost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.sentences import sentences, spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He met Dr. Smith, J. R. Jones etc. He left.", ["He met Dr. Smith, J. R. Jones etc. He left."]),
        ('"Go." She went.', ['"Go."', "She went."]),
        ("It cost 3.5 in 1990. 1991 came.", ["It cost 3.5 in 1990.", "1991 came."]),
        ("a verse,\nanother\n\nlast", ["a verse,", "another", "last"]),
        ("not an end. of course", ["not an end. of course"]),
        ("一句。二句！「三句。」四", ["一句。", "二句！", "「三句。」", "四"]),
        ("So did I. Then he.", ["So did I.", "Then he."]),
        ("", []),
    ],
)
def test_rules(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet='aB .!?\n。」"1', max_size=60).map(lambda text: " ".join(text.split(" ")).strip()))
def test_spans_hold_all_but_spaces(text: str) -> None:
    found = spans(text)
    assert all(begin < end for begin, end in found)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(found))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
