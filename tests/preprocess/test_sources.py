"""Reading raw files: what becomes a document, what is refused, and what stops the run with one line."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configfile import load_config
from pipeline.errors import InputError
from preprocess import sources
from preprocess.clean import clean
from preprocess.config import (
    BooksSource,
    CorpusConfig,
    ExtractedSource,
    JsonlSource,
    Source,
    TableSource,
    TextSource,
    WikipediaSource,
)
from preprocess.records import DeadLetter, Document, Item, Skipped, Wiki
from tests.preprocess.small import dump, page


def zstd(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return bytes(out.getvalue())


def items(source: Source) -> list[Item]:
    return [item for unit in sources.list_units([source]) for item in sources.read(unit)]


def wikipedia(path: Path) -> list[Item]:
    return items(WikipediaSource(paths=[str(path)]))


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress, zstd])
def test_wikipedia_by_content_not_by_name(tmp_path: Path, compress: Any) -> None:
    pages = [page(1, "one & <two>"), page(2, "", redirect=True), page(3, "talk", namespace=1)]
    (tmp_path / "dump").write_bytes(compress(dump(pages).encode()))
    document, redirect, other = wikipedia(tmp_path / "dump")
    assert document == Document("wikipedia/dump#1", "wikipedia", "Page 1", "one & <two>", "wikitext", {"revision": "1"})
    assert redirect == Skipped("redirect")
    assert other == Skipped("other-namespace")


_SITEINFO = """<siteinfo><namespaces><namespace key="-2">Meedia</namespace><namespace key="6">Pilt</namespace>
<namespace key="14">Kategooria</namespace><namespace key="0" /></namespaces></siteinfo>"""


def test_the_head_of_a_dump_names_files_and_categories_for_all_its_ranges(tmp_path: Path) -> None:
    head, tail = dump([]).replace("<mediawiki ", '<mediawiki xml:lang="et" ').split("</mediawiki>")
    pages = page(1, "[[Pilt:x|pisi|sõnad]]a {{lang-de|b}} [[Kategooria:c]]"), page(2, "c")
    parts = [head + _SITEINFO, *pages, "</mediawiki>" + tail]
    (tmp_path / "dump").write_bytes(b"".join(bz2.compress(part.encode()) for part in parts))
    source = WikipediaSource(paths=[str(tmp_path / "dump")], range_bytes=1)
    assert len(sources.list_units([source])) == 3
    first, second = items(source)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert first.wiki == second.wiki == Wiki("et", frozenset({"meedia", "pilt"}), frozenset({"kategooria"}))
    assert clean(first.text, first.markup, wiki=first.wiki).text == "a b"


@pytest.mark.parametrize(
    ("text", "skipped"),
    [
        ("'''A''' may be:\n* b\n{{disambiguation}}", True),
        ("{{Disambig|geo}}", True),
        ("{{ Hndis | name = A }}", True),
        ("{{Airport_disambiguation}}", True),
        ("{{Begriffsklärung}}", True),
        ("{{Homonymie}}", True),
        ("{{消歧义}}", True),
        ("{{曖昧さ回避}}", True),
        ("__DISAMBIG__", True),
        ("text [[b]]{{disambiguation needed|date=x}}", False),
        ("{{other uses|A (disambiguation)}} text", False),
        ("{{dabbling}} {{dab bling}}", False),
        ("text of disambiguation", False),
    ],
)
def test_disambiguation_pages_are_skipped(tmp_path: Path, text: str, skipped: bool) -> None:
    (tmp_path / "dump").write_text(dump([page(1, text)]))
    (item,) = wikipedia(tmp_path / "dump")
    assert (item == Skipped("disambiguation")) == skipped


def test_multistream_dump_is_read_to_its_end(tmp_path: Path) -> None:
    text = dump([page(n, "text") for n in range(4)]).encode()
    middle = len(text) // 2
    (tmp_path / "dump.bz2").write_bytes(bz2.compress(text[:middle]) + bz2.compress(text[middle:]))
    assert len(wikipedia(tmp_path / "dump.bz2")) == 4


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress])
@pytest.mark.parametrize("byte", [0, 1, 2])
def test_damaged_beginning_of_a_later_stream_is_no_end(tmp_path: Path, compress: Any, byte: int) -> None:
    lines = [b'{"text": "%d"}\n' % number for number in range(4)]
    first, second = bytearray(compress(b"".join(lines[:2]))), bytearray(compress(b"".join(lines[2:])))
    path = tmp_path / "lines"
    source = JsonlSource(paths=[str(path)])
    path.write_bytes(first + second)
    assert len(items(source)) == 4
    second[byte] ^= 0xFF
    path.write_bytes(first + second)
    with pytest.raises(InputError, match=rf"^{path}: damaged compressed stream before byte \d+: .+$"):
        items(source)


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress])
def test_bytes_behind_the_last_stream(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "lines"
    data = compress(b'{"text": "a"}\n')
    for size in (len(data) - 1, len(data) + 3):
        path.write_bytes((data * 2)[:size])
        with pytest.raises(InputError, match=rf"^{path}: truncated: "):
            items(JsonlSource(paths=[str(path)]))
    path.write_bytes(data + b"garbage")
    with pytest.raises(InputError, match=rf"^{path}: damaged compressed stream before byte {len(data) + 7}: "):
        items(JsonlSource(paths=[str(path)]))


def test_gzip_may_be_padded_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(gzip.compress(b'{"text": "a"}\n') + bytes(512))
    assert len(items(JsonlSource(paths=[str(tmp_path / "lines")]))) == 1


def test_pages_without_text_are_refused(tmp_path: Path) -> None:
    pages = [
        "<page><title>A</title><ns>0</ns><id>1</id></page>",
        "<page><id>2</id><revision><id>1</id></revision></page>",
    ]
    pages += ["<page><title/></page>", "<page><revision><text>t</text></revision></page>", page(4, "text")]
    (tmp_path / "dump").write_text(dump(pages))
    *letters, bare, whole = wikipedia(tmp_path / "dump")
    found = [(letter.id, letter.rule, letter.error) for letter in letters if isinstance(letter, DeadLetter)]
    assert found == [
        ("wikipedia/dump#1", "no-text", "the page has no <revision>"),
        ("wikipedia/dump#2", "no-text", "the page has no <text>"),
        ("wikipedia/dump#untitled", "no-text", "the page has no <revision>"),
    ]
    assert bare == Document("wikipedia/dump#untitled", "wikipedia", "", "t", "wikitext")
    assert isinstance(whole, Document)


@pytest.mark.parametrize("encoding", ["klingon", "shift_jis", "hex"])
def test_encodings_that_the_parser_does_not_know(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "dump"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>\n' + dump([page(1, "text")]))
    with pytest.raises(InputError, match=rf"^{path}: not a MediaWiki dump: .+; expected UTF-8$"):
        wikipedia(path)


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress, zstd])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_dump_names_file_and_byte(tmp_path: Path, compress: Any, part: float) -> None:
    data = compress(dump([page(n, str(hash(n)) * 50) for n in range(200)]).encode())
    path = tmp_path / "dump"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=rf"^{path}: truncated.*, at byte \d+ of {path.stat().st_size}$"):
        wikipedia(path)


def test_damaged_stream_and_foreign_xml(tmp_path: Path) -> None:
    data = bytearray(bz2.compress(dump([page(1, "x" * 1000)]).encode()))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="damaged compressed stream"):
        wikipedia(tmp_path / "a")
    (tmp_path / "b").write_text("<html></html>")
    with pytest.raises(InputError, match="its root is <html>, not <mediawiki>"):
        wikipedia(tmp_path / "b")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("none.txt", "no such file"), ("*.none", "matches no file"), ("empty.txt", "empty file"), ("folder", "a folder")],
)
def test_missing_inputs(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        sources.list_units([TextSource(paths=[str(tmp_path / pattern)])])


def test_units_are_sorted_and_independent_of_the_folder(tmp_path: Path) -> None:
    for name in ("x/b.txt", "x/y/a.txt", "x/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    globs = [str(tmp_path / "x" / "y" / "*"), str(tmp_path / "x" / "*.txt"), str(tmp_path / "x" / "a.txt")]
    units = sources.list_units([TextSource(name="z", paths=globs), BooksSource(name="m", paths=globs[:1])])
    assert [(unit.number, unit.source, unit.name) for unit in units] == [
        (0, "m", "a.txt"), (1, "z", "a.txt"), (2, "z", "b.txt"), (3, "z", "y/a.txt")
    ]  # fmt: skip


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfgood")
    letter, document = items(TextSource(paths=[str(tmp_path / "*.txt")]))
    assert isinstance(letter, DeadLetter)
    assert (letter.id, letter.rule) == ("text/a.txt", "not-utf-8")
    assert "at byte 3" in letter.error
    assert letter.snippet == "caf\\xe9"
    assert isinstance(document, Document)
    assert document.text == "good"


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        b'{"text": "a", "id": 7, "title": "t", "timestamp": 2019, "url": "u", "revision": null}',
        b"",
        b"{",
        b'{"text": 1}',
        b'"text"',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "a", "id": "\\ud800"}',
        b'{"text": "a", "title": "\\udfff"}',
        b'{"text": "a", "url": "\\udfff"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b"\n".join(lines)))
    document, *letters = items(JsonlSource(paths=[str(tmp_path / "a.jsonl")]))
    assert document == Document("jsonl/a.jsonl#1:7", "jsonl", "t", "a", "plain", {"url": "u", "timestamp": "2019"})
    assert [(letter.id[-2:], letter.rule) for letter in letters if isinstance(letter, DeadLetter)] == [
        ("#3", "not-json"), ("#4", "no-text"), ("#5", "no-text"), ("#6", "not-utf-8"), ("#7", "not-utf-8"),
        ("#8", "not-utf-8"), ("#9", "not-utf-8"), ("10", "not-utf-8")
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes()[:-12])
    with pytest.raises(InputError, match=r"a\.jsonl: truncated"):
        items(JsonlSource(paths=[str(tmp_path / "a.jsonl")]))


def test_null_is_as_if_it_were_absent(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": null, "title": null, "url": null}')
    assert items(JsonlSource(paths=[f"{tmp_path}/a.jsonl"])) == [Document("jsonl/a.jsonl#1", "jsonl", "", "a", "plain")]


EXTRACTED = """
<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="Anarchism">
Anarchism

A < b & "c".

</doc>

<doc id="13" revid="7" url="x" title="A "B" & C">
A "B" & C
</doc>
<doc id="14" url="x" title="Empty">
</doc>
"""


@pytest.mark.parametrize("compress", [bytes, bz2.compress, zstd])
def test_extracted_articles(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "wiki_00"
    path.write_bytes(compress(EXTRACTED.encode()))
    source = ExtractedSource(paths=[str(path)])
    assert items(source) == [
        Document(
            "extracted/wiki_00#12",
            "extracted",
            "Anarchism",
            'Anarchism\n\nA < b & "c".\n\n',
            "plain",
            {"url": "https://en.wikipedia.org/wiki?curid=12"},
        ),
        Document(
            "extracted/wiki_00#13", "extracted", 'A "B" & C', 'A "B" & C\n', "plain", {"url": "x", "revision": "7"}
        ),
        Document("extracted/wiki_00#14", "extracted", "Empty", "", "plain", {"url": "x"}),
    ]


def test_extracted_articles_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "wiki"
    source = ExtractedSource(paths=[str(path)])
    path.write_bytes(EXTRACTED.replace("b & ", "b \xe9 ").encode("latin-1"))
    letter, *others = items(source)
    assert isinstance(letter, DeadLetter)
    assert (letter.id, letter.rule) == ("extracted/wiki#12", "not-utf-8")
    assert len(others) == 2
    path.write_text(EXTRACTED[:-8])
    with pytest.raises(InputError, match=rf"^{path}: truncated: the article 14 has no </doc>$"):
        items(source)
    path.write_text("Anarchism\n" + EXTRACTED)
    with pytest.raises(InputError, match=rf"^{path}:1: found 'Anarchism', expected <doc id="):
        items(source)


def write_table(path: Path, table: pa.Table, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=300)
        return
    make = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
@pytest.mark.parametrize("type", [pa.string(), pa.large_string()])
def test_tables_are_known_by_their_content(tmp_path: Path, kind: str, type: pa.DataType) -> None:
    texts = [f"text {number}" for number in range(700)]
    table = pa.table({"other": range(700), "text": pa.array([*texts[:-1], None], type), "title": ["t"] * 700})
    write_table(tmp_path / "table", table, kind)
    *documents, letter = items(TableSource(paths=[str(tmp_path / "table")]))
    assert [document.text for document in documents if isinstance(document, Document)] == texts[:-1]
    assert documents[1] == Document("table/table#2", "table", "t", "text 1", "plain")
    assert letter == DeadLetter("table/table#700", "read", "no-text", "the row's text is null", "")


def test_ids_and_titles_that_are_not_utf_8_are_shown(tmp_path: Path) -> None:
    invalid = pa.array([b"\xff"]).view(pa.string())
    table = pa.table({"id": invalid, "title": invalid, "text": ["a"], "url": ["u"], "timestamp": [7]})
    write_table(tmp_path / "table", table, "parquet")
    assert items(TableSource(paths=[str(tmp_path / "table")])) == [
        Document("table/table#1:\\xff", "table", "\\xff", "a", "plain", {"url": "u", "timestamp": "7"})
    ]


def test_rows_have_their_own_ids_and_may_not_be_utf_8(tmp_path: Path) -> None:
    invalid = pa.array([b"a", b"\xff"]).view(pa.string())
    write_table(tmp_path / "table", pa.table({"id": [7, None], "text": invalid}), "parquet")
    document, letter = items(TableSource(paths=[str(tmp_path / "table")]))
    assert document == Document("table/table#1:7", "table", "", "a", "plain")
    assert isinstance(letter, DeadLetter)
    assert (letter.id, letter.rule) == ("table/table#2", "not-utf-8")


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_tables_without_texts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "table"
    write_table(path, pa.table({"texts": ["a"]}), kind)
    with pytest.raises(InputError, match=rf"^{path}: no column 'text'.*did you mean 'texts'"):
        items(TableSource(paths=[str(path)]))
    write_table(path, pa.table({"text": [1]}), kind)
    with pytest.raises(InputError, match=rf"^{path}: column 'text' is of type int64; expected string$"):
        items(TableSource(paths=[str(path)]))


@given(kind=st.sampled_from(["parquet", "arrow file", "arrow stream"]), data=st.data())
def test_damaged_tables_are_one_line(tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("table") / "table"
    write_table(path, pa.table({"text": [f"text {number}" for number in range(50)]}), kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    message, found = "", []
    try:
        found = items(TableSource(paths=[str(path)]))
    except InputError as error:
        message = str(error)
    if found or (kind == "arrow stream" and not message):  # such a stream may end without its mark
        assert (kind, len(found) in (0, 50)) == ("arrow stream", True)
    else:
        assert message.startswith(f"{path}: damaged, after")
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [{type: text, path: [a]}]", r"unknown key 'sources.0.path'.*did you mean 'paths'"),
        ("sources: [{type: txt, paths: [a]}]", "sources.0"),
        ("sources: [{type: text, paths: [a]}, {type: text, paths: [b]}]", "two sources are named 'text'"),
        ("sources: [{type: text, name: a/b, paths: [a]}]", "a source's name is made of letters"),
        ("sources: [{type: text, paths: [a]}]\nsequence_lengths: [512, 128]", "expected increasing numbers"),
        ("sources: [{type: text, paths: [a]}]\nsplit: {valid: 1.5}", "split.valid: found 1.5"),
        ("sources: [{type: text, paths: [a]}]\ntokenizer: {vocab_sise: 8}", "did you mean 'vocab_size'"),
    ],
)
def test_configuration_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "corpus.yaml"
    path.write_text(f"output: out\n{text}\n")
    with pytest.raises(InputError, match=message):
        load_config(CorpusConfig, path)
