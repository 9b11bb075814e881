"""Bad input: each kind has its one line or its dead letter; nothing hangs, and nothing is dropped unsaid."""

import bz2
import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.files import read_json
from preprocess import nested_json, sources
from preprocess.config import (
    BooksSource,
    CorpusConfig,
    ExtractedSource,
    JsonlSource,
    OnTruncation,
    Source,
    TextSource,
    WikipediaSource,
)
from preprocess.documents import cleaned
from preprocess.records import DeadLetter, Document, Item
from preprocess.run import run
from preprocess.sources import lines
from tests.preprocess.small import dump, page, prose, small_config, write_raw
from tests.preprocess.test_multistream import multistream
from tests.preprocess.test_sources import zstd


def items(source: Source, on_truncation: OnTruncation = "stop") -> list[Item]:
    return [item for unit in sources.list_units([source]) for item in sources.read(unit, on_truncation)]


def letter(item: Item) -> tuple[str, str, str]:
    assert isinstance(item, DeadLetter)
    return item.id, item.rule, item.error


def titles(found: list[Item]) -> list[str]:
    return [item.title for item in found if isinstance(item, Document)]


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress, zstd])
def test_what_a_truncated_dump_has_is_kept_if_the_configuration_says_so(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "dump"
    text = dump([page(n, prose(n, 200)) for n in range(40)]).encode()
    cut = compress(text) if compress is not bytes else text
    path.write_bytes(cut[: len(cut) * 6 // 10])
    source = WikipediaSource(paths=[str(path)], on_truncation="keep")
    with pytest.raises(InputError, match=rf"^{path}: truncated dump: .*, at byte \d+ of \d+$"):
        items(source)
    *pages, last = items(source, "keep")
    whole = wikipedia_of(tmp_path / "whole", text)
    assert [item for item in pages if isinstance(item, Document)] == pages
    assert [item.text for item in pages if isinstance(item, Document)] == [
        item.text for item in whole[: len(pages)] if isinstance(item, Document)
    ]
    assert 0 < len(pages) < 40 or compress is bz2.compress  # (it is one block, of which nothing is there)
    id, rule, error = letter(last)
    assert (id, rule) == ("wikipedia/dump#end", "truncated")
    assert error.startswith("truncated dump: ")
    assert str(tmp_path) not in error


def wikipedia_of(path: Path, data: bytes) -> list[Item]:
    path.write_bytes(data)
    return items(WikipediaSource(paths=[str(path)]))


@pytest.mark.parametrize("range_bytes", [1, 2000, 10**9])
def test_whatever_the_ranges_a_truncated_multistream_dump_keeps_the_same(tmp_path: Path, range_bytes: int) -> None:
    path = tmp_path / "dump"
    data = multistream([page(n, prose(n)) for n in range(20)], 2)
    path.write_bytes(data[: len(data) * 7 // 10])
    source = WikipediaSource(paths=[str(path)], range_bytes=range_bytes)
    *pages, last = items(source, "keep")
    streams = path.read_bytes().count(b"BZh91AY&SY")
    assert titles(pages) == [f"Page {n}" for n in range((streams - 2) * 2)]
    assert letter(last)[:2] == ("wikipedia/dump#end", "truncated")


def test_xml_that_is_cut_within_a_page(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    text = dump([page(1, "one"), page(2, "two")]).encode()
    path.write_bytes(text[: text.index(b"two")])
    with pytest.raises(InputError, match=rf"^{path}: truncated dump: elements are open that nothing closes, at byte"):
        items(WikipediaSource(paths=[str(path)]))
    whole, last = items(WikipediaSource(paths=[str(path)]), "keep")
    assert (titles([whole]), letter(last)[1]) == (["Page 1"], "truncated")


@pytest.mark.parametrize("data", [b"\0", b"\xed\xa0\x80", b"\xff"])
def test_what_no_xml_may_hold_is_damage(tmp_path: Path, data: bytes) -> None:
    """A NUL, half a surrogate pair, a byte that is not UTF-8: kept or not, what follows cannot be trusted."""
    path = tmp_path / "dump"
    path.write_bytes(dump([page(1, "one"), page(2, "t@o"), page(3, "three")]).encode().replace(b"@", data))
    for on_truncation in ("stop", "keep"):
        with pytest.raises(InputError, match=rf"^{path}: damaged dump: not well-formed .*, after 1 pages, at byte \d+"):
            items(WikipediaSource(paths=[str(path)]), on_truncation)  # type: ignore[arg-type]


def test_damage_is_never_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    data = bytearray(gzip.compress(b'{"text": "a"}\n' * 1000))
    data[-6] ^= 1  # the checksum
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^{path}: damaged compressed stream"):
        items(JsonlSource(paths=[str(path)]), "keep")


@pytest.mark.parametrize("size", [100, 5000, 70_001])
def test_all_whole_frames_of_a_truncated_zstd_file_are_kept(tmp_path: Path, size: int) -> None:
    """Arrow's decompressor loses what it has of the bytes that it is asked for when it finds the end missing."""
    path = tmp_path / "lines"
    line = b'{"text": "%s"}\n' % (b"a" * size)
    path.write_bytes(zstd(line) * 7 + zstd(line)[:-4])
    *documents, last = items(JsonlSource(paths=[str(path)]), "keep")
    assert [len(item.text) for item in documents if isinstance(item, Document)] == [size] * 7
    assert letter(last)[:2] == ("jsonl/lines#end", "truncated")


def test_truncated_lines_and_articles(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(gzip.compress(b"".join(b'{"text": "%d"}\n' % n for n in range(5000)))[:-20])
    *documents, last = items(JsonlSource(paths=[str(path)]), "keep")
    assert [item.text for item in documents if isinstance(item, Document)] == [str(n) for n in range(len(documents))]
    assert len(documents) > 4000
    assert letter(last)[:2] == ("jsonl/lines#end", "truncated")
    path.write_text('<doc id="1" url="u" title="A">\na\n</doc>\n<doc id="2" url="u" title="B">\nb\n')
    article, last = items(ExtractedSource(paths=[str(path)]), "keep")
    assert titles([article]) == ["A"]
    assert letter(last)[1:] == ("truncated", "truncated: the article 2 has no </doc>")


def test_a_run_keeps_what_a_truncated_file_has(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    text = dump([page(n, prose(n)) for n in range(12)])
    (tmp_path / "raw" / "wiki.xml.bz2").write_text(text[: text.index("<page><title>Page 10")])
    config = small_config(tmp_path / "raw", tmp_path / "corpus")
    with pytest.raises(InputError, match="truncated dump"):
        run(config)
    keeping = [source.model_copy(update={"on_truncation": "keep"}) for source in config.sources]
    counts = read_json(run(config.model_copy(update={"sources": keeping})) / "manifest.json")["counts"]
    assert counts["sources"]["wikipedia"]["kept"] == 10
    assert counts["sources"]["wikipedia"]["dead_letters"] == {"truncated": 1}


def test_a_page_without_text_is_a_dead_letter_of_its_own(tmp_path: Path) -> None:
    texts = ["<text></text>", "<text/>", "<text>  \n </text>", "<text><!-- none --></text>"]
    pages = [page(n, "").replace("<text></text>", text) for n, text in enumerate(texts)]
    found = [
        cleaned(item, config(tmp_path), Counter()) for item in wikipedia_of(tmp_path / "dump", dump(pages).encode())
    ]
    assert [letter(item)[:2] for item in found] == [(f"wikipedia/dump#{n}", "empty") for n in range(4)]


def config(folder: Path) -> CorpusConfig:
    return small_config(folder / "raw", folder / "corpus")


@pytest.mark.parametrize("unit", ["a", "word ", "走。", '"Go!" he said. '])
def test_a_text_over_the_limit_is_refused_before_anything_is_done_with_it(tmp_path: Path, unit: str) -> None:
    (tmp_path / "a.txt").write_text(unit * (10_000_001 // len(unit) + 1))
    (document,) = items(TextSource(paths=[str(tmp_path / "a.txt")]))
    refused = cleaned(document, config(tmp_path), Counter())
    assert letter(refused)[:2] == ("text/a.txt", "oversized")
    assert letter(refused)[2].endswith("characters, expected at most 10000000")


@pytest.mark.parametrize("character", ["a", "走", "é"])
def test_a_run_without_white_space_is_refused_over_its_limit(tmp_path: Path, character: str) -> None:
    for length, between, refused in ((20, " ", False), (21, " ", True), (20, "\n", False), (21, "\r\n", True)):
        text = f"{prose(1)}{between}{character * length}{between}{prose(2)}"
        strict = small_config(tmp_path, tmp_path / "corpus", clean={"max_unbroken": 20})
        found = cleaned(Document("id", "s", "", text, "plain"), strict, Counter())
        assert isinstance(found, DeadLetter) == refused, (length, between)
        if refused:
            assert letter(found)[1:] == ("unbroken", "21 characters without white space, expected at most 20")


def test_an_encoded_file_of_a_million_characters_never_reaches_a_tokenizer(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    with (tmp_path / "raw" / "lines.jsonl").open("a") as file:
        for length in (1_000_000, 100_001, 100_000):
            file.write(json.dumps({"text": f"{prose(length)} {'QUJD' * (length // 4)}{'A' * (length % 4)}"}) + "\n")
    counts = read_json(run(config(tmp_path)) / "manifest.json")["counts"]["sources"]["lines"]
    assert counts["dead_letters"]["unbroken"] == 2
    assert counts["kept"] == 8


LIMITED = """
import resource, sys
from preprocess import nested_json, sources
from preprocess.config import ExtractedSource, JsonlSource, TextSource
kind = {"jsonl": JsonlSource, "text": TextSource, "extracted": ExtractedSource}[sys.argv[1]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for item in [i for unit in sources.list_units([kind(paths=[sys.argv[2]])]) for i in sources.read(unit)]:
    print(type(item).__name__, item.id, getattr(item, "rule", len(getattr(item, "text", ""))))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["jsonl", "text", "extracted"])
def test_a_line_of_more_than_a_hundred_megabytes_takes_bounded_memory(tmp_path: Path, kind: str) -> None:
    """One of 100 MB is read whole; one of 600 MB never is."""
    path, size = tmp_path / "long", 100_000_000
    begin, end = {
        "jsonl": ('{"text": "', '"}\n{"text": "next"}\n'),
        "text": ("", ""),
        "extracted": ('<doc id="1" url="u" title="t">\n', '\n</doc>\n<doc id="2" url="u" title="t">\nnext\n</doc>\n'),
    }[kind]
    for repeated, found, megabytes in ((1, str(size), 700), (6, "oversized", 900)):
        with path.open("w") as file:
            file.write(begin)
            for _ in range(10 * repeated):
                file.write("a" * (size // 10))
            file.write(end)
        out = subprocess.run([sys.executable, "-c", LIMITED, kind, str(path)], capture_output=True, text=True)
        *shown, peak = out.stdout.splitlines()
        assert shown[0].endswith(f" {found}") or (kind == "extracted" and shown[0].endswith(f" {size + 1}")), out
        assert len(shown) == (1 if kind == "text" else 2)
        assert int(peak) < megabytes, (repeated, peak)


def test_lines_are_cut_at_the_limit_and_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 40)
    for module in (sources.jsonl, sources.extracted):
        monkeypatch.setattr(module, "LONGEST", 40)
    path = tmp_path / "lines"
    for length in range(8, 80):
        path.write_text(json.dumps({"text": "a" * length}) + '\n{"text": "next"}\n')
        first, second = items(JsonlSource(paths=[str(path)]))
        assert (isinstance(first, Document), titles([second])) == (length <= 40 - len('{"text": ""}\n'), [""])
        body = "".join(f"{line}\n" for line in ["a" * 8] * (length // 8))
        path.write_text(f'<doc id="1" url="" title="">\n{body}</doc>\n')
        (article,) = items(ExtractedSource(paths=[str(path)]))
        assert isinstance(article, Document) == (len(body) <= 40)


@pytest.mark.parametrize("stack", [0, 300, 600])
def test_how_deep_json_may_be_nested_does_not_depend_on_the_stack(tmp_path: Path, stack: int) -> None:
    def deeper(frames: int) -> list[Item]:
        return deeper(frames - 1) if frames else items(JsonlSource(paths=[f"{tmp_path}/a.jsonl"]))

    def nested(depth: int, text: str) -> str:
        return json.dumps({"text": text}).replace("}", f', "more": {"[" * (depth - 1)}{"]" * (depth - 1)}}}')

    brackets = "[{" * 500 + '\\"' + "[" * 500
    lines = [nested(100, "a"), nested(101, "b"), nested(700, "c"), nested(100, brackets), "[" * 100_000, '"[' * 200]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert sys.getrecursionlimit() == 1000
    first, second, third, fourth, fifth, sixth = deeper(stack)
    assert [item.text for item in (first, fourth) if isinstance(item, Document)] == ["a", brackets]
    for refused in (second, third, fifth):
        assert letter(refused)[1:] == ("not-json", "arrays and objects are nested deeper than 100")
    assert letter(sixth)[1] == "not-json"


def test_brackets_of_json_are_counted_in_linear_time() -> None:
    def seconds(length: int) -> float:
        begun = time.process_time()
        with pytest.raises(ValueError, match="Unterminated string"):
            nested_json.loads('"' + '\\"[' * length)
        return time.process_time() - begun

    assert min(seconds(400_000) for _ in range(3)) < 20 * min(seconds(100_000) for _ in range(3))


def test_nul_bytes_are_removed(tmp_path: Path) -> None:
    good = prose(1)
    (tmp_path / "a.txt").write_text(good.replace(" ", "\0 \0", 5))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": good.replace(" ", "\0 ", 5)}) + "\n")
    found = [*items(TextSource(paths=[f"{tmp_path}/a.txt"])), *items(JsonlSource(paths=[f"{tmp_path}/a.jsonl"]))]
    texts = [cleaned(item, config(tmp_path / f"{n}"), Counter()) for n, item in enumerate(found)]
    assert [item.text for item in texts if isinstance(item, Document)] == [good, good]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "a.txt").write_bytes((mark + "Grüße 走\r\n").encode(encoding))
    for kind in (TextSource, BooksSource):
        (document,) = items(kind(paths=[f"{tmp_path}/a.txt"]))
        assert isinstance(document, Document)
        assert document.text == "Grüße 走\r\n"
    (tmp_path / "b.txt").write_bytes((mark + "Grüße").encode(encoding) + b"x")
    (cut,) = items(TextSource(paths=[f"{tmp_path}/b.txt"]))
    assert letter(cut)[1:] == ("not-utf-8", letter(cut)[2])
    assert letter(cut)[2].startswith("not UTF-16, as its byte order mark says, at byte 12")
    (tmp_path / "a.jsonl").write_bytes((mark + '{"text": "a"}\n').encode(encoding))
    with pytest.raises(InputError, match=r"a\.jsonl: found UTF-16; expected UTF-8$"):
        items(JsonlSource(paths=[f"{tmp_path}/a.jsonl"]))
    with pytest.raises(InputError, match=r"a\.jsonl: found UTF-16; expected UTF-8$"):
        items(ExtractedSource(paths=[f"{tmp_path}/a.jsonl"]))
    xml = f'<?xml version="1.0" encoding="UTF-16"?>{dump([page(1, "走")])}'
    (found,) = wikipedia_of(tmp_path / "dump", (mark + xml).encode(encoding))
    assert isinstance(found, Document)
    assert found.text == "走"


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n')
    (document,) = items(JsonlSource(paths=[f"{tmp_path}/a"]))
    assert isinstance(document, Document)
    (tmp_path / "a").write_bytes(b'\xef\xbb\xbf<doc id="1" url="u" title="A">\na\n</doc>\n')
    assert titles(items(ExtractedSource(paths=[f"{tmp_path}/a"]))) == ["A"]


def test_mixed_line_ends(tmp_path: Path) -> None:
    paragraphs = prose(1).split("\n\n")
    mixed = "".join(part + end * 2 for part, end in zip(paragraphs, ["\n", "\r\n", "\r"] * 9, strict=False))
    (tmp_path / "a.txt").write_bytes(mixed.encode())
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\r\n{"text": "b"}\n\r\n{"text": "c"}')
    (tmp_path / "a.doc").write_bytes(
        b'<doc id="1" url="u" title="A">\r\na\r\n</doc>\r\n<doc id="2" title="B">\nb\n</doc>'
    )
    (text,) = items(TextSource(paths=[f"{tmp_path}/a.txt"]))
    result = cleaned(text, config(tmp_path), Counter())
    assert isinstance(result, Document)
    assert result.text == prose(1)
    assert len(items(JsonlSource(paths=[f"{tmp_path}/a.jsonl"]))) == 3
    assert titles(items(ExtractedSource(paths=[f"{tmp_path}/a.doc"]))) == ["A", "B"]
