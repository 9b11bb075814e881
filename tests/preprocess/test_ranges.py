"""Files that are read in ranges: any cut gives the documents of the whole, with the same ids."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.files import read_json
from preprocess import sources
from preprocess.config import ExtractedSource, JsonlSource, TableSource
from preprocess.records import Item, Unit
from preprocess.run import run
from tests.preprocess.small import prose, small_config, write_raw

KINDS = {"jsonl": JsonlSource, "extracted": ExtractedSource, "table": TableSource}
WHOLE = 10**9


def units(kind: str, path: Path, range_bytes: int) -> list[Unit]:
    return sources.list_units([KINDS[kind](paths=[str(path)], range_bytes=range_bytes)])


def items(kind: str, path: Path, range_bytes: int) -> list[Item]:
    return [item for unit in units(kind, path, range_bytes) for item in sources.read(unit)]


def check(kind: str, path: Path, range_bytes: int, expected: int) -> None:
    found = units(kind, path, range_bytes)
    assert [unit.begin for unit in found] == [0, *(unit.end for unit in found[:-1])]
    whole = items(kind, path, WHOLE)
    assert items(kind, path, range_bytes) == whole
    assert len(whole) == expected
    assert len({item.id for item in whole if not hasattr(item, "stage")}) <= expected


LINES = st.lists(st.sampled_from([b'{"text": "a"}', b'{"text": "a\\nb", "id": 3}', b"", b"  ", b"{", b"\xff", b"BZh9"]))
ENDS = st.sampled_from([b"\n", b"\r\n"])


@given(lines=LINES, end=ENDS, last=st.booleans(), mark=st.booleans(), range_bytes=st.integers(1, 80))
def test_any_cut_of_json_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], end: bytes, last: bool, mark: bool, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + b'{"text": ""}\n' + end.join(lines) + (end if last else b""))
    check("jsonl", path, range_bytes, 1 + sum(bool(line.strip()) for line in lines))


@given(
    bodies=st.lists(st.lists(st.sampled_from(["a", "", '<doc id="7" title="t">', "x</doc>", "</doc >"]), max_size=5)),
    between=st.sampled_from(["\n", "\n\n", "\r\n \n"]),
    range_bytes=st.integers(1, 200),
)
def test_any_cut_of_articles(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[list[str]], between: str, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("articles") / "wiki_00"
    articles = [
        f'<doc id="{n}" url="u" title="{n}">\n' + "".join(f"{line}\n" for line in body) + "</doc>" + between
        for n, body in enumerate([[], *bodies])
    ]
    path.write_text("".join(articles), newline="")
    check("extracted", path, range_bytes, 1 + len(bodies))


@given(rows=st.integers(0, 60), group=st.integers(1, 20), range_bytes=st.integers(1, 5000))
def test_any_cut_of_parquet_files(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("table") / "table"
    texts = [None if n % 7 == 6 else prose(n, 1) for n in range(rows)]
    pq.write_table(
        pa.table({"text": pa.array(texts, pa.string()), "id": list(range(rows))}), path, row_group_size=group
    )
    check("table", path, range_bytes, rows)


def test_each_line_and_row_group_can_be_read_by_a_task_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f'{{"text": "{n}"}}\n' for n in range(20)))
    assert len(units("jsonl", tmp_path / "lines", 1)) == 10, "a range ends behind the first whole line"
    pq.write_table(pa.table({"text": ["a"] * 20}), tmp_path / "table", row_group_size=2)
    assert len(units("table", tmp_path / "table", 1)) == 10


def test_ranges_are_of_about_equal_size(tmp_path: Path) -> None:
    line = '{"text": "' + "a" * 88 + '"}\n'
    (tmp_path / "lines").write_text(line * 1000)
    for target in (30_000, 40_000, 60_000):
        sizes = [unit.end - unit.begin for unit in units("jsonl", tmp_path / "lines", target)]
        assert len(sizes) == 100_000 // target
        assert min(sizes) >= target - 3 * len(line)
        assert max(sizes) - min(sizes) < 3 * len(line) * len(sizes)


@pytest.mark.parametrize("kind", ["jsonl", "extracted"])
def test_compressed_lines_are_one_range(tmp_path: Path, kind: str) -> None:
    (tmp_path / "lines").write_bytes(gzip.compress(b"\n" * 1000))
    assert len(units(kind, tmp_path / "lines", 1)) == 1


def test_a_mistake_in_a_later_range_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "wiki"
    article = '<doc id="1" url="u" title="t">\na\n</doc>\n'
    path.write_text(article * 20 + "text\n")
    assert len(units("extracted", path, 1)) == 20 + 1
    with pytest.raises(InputError, match=rf"^{path}:61: found 'text', expected <doc"):
        items("extracted", path, 1)


def test_the_corpus_does_not_depend_on_ranges(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    texts = [prose(n) for n in range(24)]
    (tmp_path / "raw" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:12]))
    pq.write_table(pa.table({"text": texts[6:]}), tmp_path / "raw" / "a.parquet", row_group_size=2)
    (tmp_path / "raw" / "a.doc").write_text(
        "".join(f'<doc id="{n}" url="u" title="t">\n{prose(50 + n)}\n</doc>\n' for n in range(12))
    )
    digests = set()
    for range_bytes in (1, 3000, WHOLE):
        ranged = [
            {"type": kind, "paths": [str(tmp_path / "raw" / name)], "range_bytes": range_bytes}
            for kind, name in (("jsonl", "a.jsonl"), ("table", "a.parquet"), ("extracted", "a.doc"))
        ]
        corpus = run(small_config(tmp_path / "raw", tmp_path / f"corpus-{range_bytes}", sources=ranged))
        manifest = read_json(corpus / "manifest.json")
        digests.add(manifest["digest"])
        assert [entry["name"] for entry in manifest["inputs"]] == ["a.doc", "a.jsonl", "a.parquet"]
        assert manifest["counts"]["kept"] == 36
    assert len(digests) == 1
