"""Multistream dumps: any cut gives the pages of the whole, and the same corpus."""

import bz2
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.files import read_json
from preprocess import sources
from preprocess.config import WikipediaSource
from preprocess.records import Document, Item
from preprocess.run import run
from preprocess.sources.multistream import ranges
from tests.preprocess.small import dump, page, prose, small_config, write_raw


def multistream(pages: list[str], together: int) -> bytes:
    """A dump as Wikimedia writes it: a stream for the header, one for so many pages, one for the footer."""
    header, footer = dump([]).split("</mediawiki>")
    parts = ["".join(pages[first : first + together]) for first in range(0, len(pages), together)]
    return b"".join(bz2.compress(part.encode()) for part in [header, *parts, "</mediawiki>" + footer])


def read(path: Path, range_bytes: int) -> tuple[int, list[Item]]:
    """The number of units and what they hold."""
    units = sources.list_units([WikipediaSource(paths=[str(path)], range_bytes=range_bytes)])
    return len(units), [item for unit in units for item in sources.read(unit)]


@settings(deadline=None, max_examples=40)
@given(pages=st.integers(1, 40), together=st.integers(1, 9), range_bytes=st.integers(1, 3000))
def test_any_cut_gives_the_pages_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, pages: int, together: int, range_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("dump") / "dump.bz2"
    path.write_bytes(multistream([page(n, prose(n, 3)) for n in range(pages)], together))
    cuts = ranges(str(path), path.stat().st_size, range_bytes)
    assert [begin for begin, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == path.stat().st_size
    assert all(end - begin >= range_bytes for begin, end in cuts[:-1])
    number, items = read(path, range_bytes)
    assert number == len(cuts)
    assert items == read(path, 10**9)[1]
    assert [item.title for item in items if isinstance(item, Document)] == [f"Page {n}" for n in range(pages)]


@pytest.mark.parametrize("lost", [30, 60, 300, 1000])
def test_a_truncated_dump_and_pages_without_ids_say_the_same_of_any_range(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "dump"
    pages = [page(n, prose(n, 3)).replace(f"<id>{n}</id>", "") for n in range(40)]
    pages[30] = "<page><title>Page 30</title></page>\n"
    path.write_bytes(multistream(pages, 3)[:-lost])
    found = []
    for range_bytes in (1, path.stat().st_size // 3, 10**9):
        units = sources.list_units([WikipediaSource(paths=[str(path)], range_bytes=range_bytes)])
        found.append((len(units), [item for unit in units for item in sources.read(unit, "keep")]))
    assert found[0][0] > found[1][0] > found[2][0] == 1
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[0][1][-1].rule == "truncated"  # type: ignore[union-attr]
    assert found[0][1][4].id == "wikipedia/dump#Page 4"  # type: ignore[union-attr]


def test_each_stream_of_pages_can_be_a_unit_and_the_footer_is_none(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(multistream([page(n, "text") for n in range(12)], 3))
    assert (
        len(ranges(str(tmp_path / "dump"), (tmp_path / "dump").stat().st_size, 1)) == 1 + 4
    )  # the header's, four of three pages; the footer's


def test_ranges_are_of_equal_size(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(multistream([page(n, prose(n, 3)) for n in range(200)], 2))
    size = path.stat().st_size
    sizes = [end - begin for begin, end in ranges(str(path), size, int(size / 3.9))]
    assert len(sizes) == 3, "not three ranges and a rest"
    assert max(sizes) < 1.1 * size / 3


def test_streams_that_end_within_a_page_are_not_cut(tmp_path: Path) -> None:
    text = dump([page(n, "text") for n in range(4)]).encode()
    data = b"".join(bz2.compress(text[at : at + 50]) for at in range(0, len(text), 50))
    (tmp_path / "dump").write_bytes(data)
    assert all(text[at:].startswith(b"<page>") is False for at in range(0, len(text), 50)), "no cut would be right"
    assert ranges(str(tmp_path / "dump"), (tmp_path / "dump").stat().st_size, 1) == [(0, len(data))]
    assert len(read(tmp_path / "dump", 1)[1]) == 4


def test_other_files_are_one_range(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(dump([page(1, "BZh91AY&SY<page>")]))
    assert ranges(str(tmp_path / "dump"), (tmp_path / "dump").stat().st_size, 1) == [
        (0, (tmp_path / "dump").stat().st_size)
    ]


def test_damage_in_a_range_names_the_file_and_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(multistream([page(n, prose(n)) for n in range(9)], 3))
    units = sources.list_units([WikipediaSource(paths=[str(path)], range_bytes=1)])
    begin, end = units[2].begin, units[2].end
    data = bytearray(path.read_bytes())
    data[(begin + end) // 2] ^= 0xFF
    path.write_bytes(data)
    assert list(sources.read(units[1]))
    with pytest.raises(InputError, match=rf"^{path}: .*byte \d+"):
        list(sources.read(units[2]))
    path.write_bytes(data[: units[-1].begin + 60])
    with pytest.raises(InputError, match=rf"^{path}: truncated"):
        list(sources.read(replace(units[-1], end=units[-1].bytes)))


def test_the_corpus_does_not_depend_on_streams_or_ranges(tmp_path: Path) -> None:
    pages = [page(n, f"'''Page''' {prose(n)}") for n in range(30)]
    digests = set()
    for name, data, range_bytes in (
        ("single", bz2.compress(dump(pages).encode()), 1),
        ("cut", multistream(pages, 2), 1),
        ("whole", multistream(pages, 7), 10**9),
    ):
        raw = tmp_path / name
        write_raw(raw)
        (raw / "wiki.xml.bz2").write_bytes(data)
        config = small_config(raw, tmp_path / f"{name}-corpus")
        wikipedia = config.sources[0].model_copy(update={"range_bytes": range_bytes})
        manifest = read_json(
            run(config.model_copy(update={"sources": [wikipedia, *config.sources[1:]]})) / "manifest.json"
        )
        digests.add(manifest["corpus_digest"])
        assert len(manifest["inputs"]) == 1 + 7 + 1, "files, not ranges"
        assert manifest["counts"]["sources"]["wikipedia"]["kept"] == 30
    assert len(digests) == 1
