"""A small raw corpus of every kind of source, made of invented words."""

import bz2
import json
import random
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from preprocess.config import CorpusConfig

_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def prose(seed: int, sentences: int = 40) -> str:
    """Paragraphs of sentences of words that follow Zipf's law."""
    words = random.Random(0)
    vocabulary = ["".join(words.choices(_SYLLABLES, k=words.randint(1, 4))) for _ in range(600)]
    weights = [1 / (rank + 1) for rank in range(len(vocabulary))]
    draw = random.Random(seed)
    lines: list[str] = []
    for number in range(sentences):
        sentence = " ".join(draw.choices(vocabulary, weights, k=draw.randint(3, 18))).capitalize() + draw.choice(".!?")
        if number % 5 == 0:
            lines.append(sentence)
        else:
            lines[-1] += " " + sentence
    return "\n\n".join(lines)


def page(number: int, text: str, namespace: int = 0, redirect: bool = False) -> str:
    target = '<redirect title="Elsewhere" />' if redirect else ""
    return (
        f"<page><title>Page {number}</title><ns>{namespace}</ns><id>{number}</id>{target}"
        f"<revision><id>1</id><text>{escape(text)}</text></revision></page>\n"
    )


def dump(pages: list[str]) -> str:
    return '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">\n' + "".join(pages) + "</mediawiki>\n"


def write_raw(folder: Path) -> None:
    """Write `wiki.xml.bz2`, `books/*`, `lines.jsonl`: 12 + 6 + 7 good documents, 1 duplicate, 3 refused, 2 skipped."""
    pages = [page(n, f"'''Page''' {{{{box|a}}}} [[bala|link]]<ref>note</ref>\n\n{prose(n)}") for n in range(12)]
    pages += [page(50, "#REDIRECT [[Page 1]]", redirect=True), page(51, prose(51), namespace=4)]
    (folder / "books").mkdir(parents=True)
    (folder / "wiki.xml.bz2").write_bytes(bz2.compress(dump(pages).encode()))
    for number in range(4):
        (folder / "books" / f"book-{number}.txt").write_text(prose(100 + number), encoding="utf-8")
    for number in range(2):
        text = f"# Book {number}\n\n**BALA**  \n{prose(200 + number)}"
        (folder / "books" / f"play-{number}.md").write_text(text, encoding="utf-8")
    (folder / "books" / "latin1.txt").write_bytes("caf\xe9 ".encode("latin-1") * 100)
    records: list[Any] = [{"id": n, "title": f"Record {n}", "text": prose(300 + n)} for n in range(7)]
    records += [
        {"text": "  " + prose(303).replace(" ", "   ").upper()},
        {"text": "Too short.", "url": "https://short"},
        {"title": "no text"},
    ]
    (folder / "lines.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def small_config(raw: Path, output: Path, **changes: Any) -> CorpusConfig:
    """The configuration of `write_raw`'s files."""
    values: dict[str, Any] = {
        "output": str(output),
        "sources": [
            {"type": "wikipedia", "paths": [str(raw / "wiki.xml.bz2")], "license": "CC0", "attribution": "nobody"},
            {"type": "books", "paths": [str(raw / "books" / "*.txt"), str(raw / "books" / "*.md")]},
            {"type": "jsonl", "name": "lines", "paths": [str(raw / "lines.jsonl")]},
        ],
        "split": {"valid": 0.2},
        "tokenizer": {"vocab_size": 400, "sample_characters": 40000},
        "sequence_lengths": [32, 64],
        "shards": {"train": 3, "valid": 2},
        "seed": 5,
    }
    return CorpusConfig.model_validate_json(json.dumps({**values, **changes}))
