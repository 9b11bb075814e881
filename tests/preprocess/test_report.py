"""report.html says what is in the corpus, loads nothing, and shows what files say as text."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from launch import cli
from pipeline.corpus.shards import Corpus, open_shards
from pipeline.errors import DigestError, InputError
from preprocess.rates import rates
from preprocess.run import run
from preprocess.svg import bar_chart
from tests.conftest import flip_byte
from tests.preprocess.small import prose, small_config, write_raw
from tests.tiny import tiny_corpus

HOSTILE = '<script>alert("1")</script>&'
VOID = {"meta", "rect"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_raw(folder / "raw")
    near = prose(101, 200)
    (folder / "raw" / "books" / "long.txt").write_text(near, encoding="utf-8")
    (folder / "raw" / "books" / "longer.txt").write_text(near + "\n\nOne more sentence here.", encoding="utf-8")
    config = small_config(folder / "raw", folder / "corpus", dedup={"near": {}})
    sources = [source.model_copy(update={"attribution": HOSTILE}) for source in config.sources]
    return run(config.model_copy(update={"sources": sources}))


class Page(HTMLParser):
    """Tags and attributes of a page; every tag that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_the_report_loads_nothing_and_shows_hostile_text_as_text(corpus: Path) -> None:
    text = (corpus / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "a", "use", "image", "form"}
    assert not {name for name in page.attributes if name in ("src", "href", "style") or name.startswith("on")}
    assert "url(" not in text
    assert "@import" not in text
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text
    assert sum(HOSTILE in part for part in page.text) >= 1
    assert page.tags["svg"] == page.tags["desc"] >= 4


def test_the_numbers_are_those_of_the_corpus(corpus: Path) -> None:
    opened = Corpus(corpus)
    counts, splits = opened.manifest["counts"], opened.manifest["splits"]
    lengths = {
        split: np.concatenate([np.diff(shard.index["documents"].astype(int)) for shard in open_shards(opened, split)])
        for split in ("train", "valid")
    }
    for split, found in lengths.items():
        assert counts["document_lengths"][split] == {
            str(2**n): number for n, number in Counter(int(length).bit_length() - 1 for length in found).items()
        }
    by_source = {name: source["tokens"] for name, source in counts["sources"].items()}
    assert sum(by_source.values()) == counts["tokens"] == sum(split["tokens"] for split in splits.values())
    assert all(by_source.values())
    assert counts["cluster_sizes"] == {"2": 1}
    encoded = opened.manifest["tokenizer"]["encoded"]
    for key in ("tokens", "characters", "words", "byte_tokens"):
        assert encoded[key] == sum(source[key] for source in counts["sources"].values())
    page = Page((corpus / "report.html").read_text(encoding="utf-8"))
    rows = {row[0]: row for row in page.rows[::-1] if row}  # the first of a name
    wikipedia = counts["sources"]["wikipedia"]
    assert rows["wikipedia"][2:5] == [str(wikipedia["read"]), "12", f"{wikipedia['tokens']:,}"]
    shards = [splits["train"]["shard_tokens"][key] for key in ("min", "max")]
    assert rows["train"][4:7] == ["3", *(f"{number:,}" for number in shards)]
    said = " ".join(page.text)
    for rule in ("near-duplicates: 1 (", "refused: no-text: 1 (", "skipped: redirect: 1 ("):
        assert rule in said
    assert opened.digest in said
    lines = counts["sources"]["lines"]
    words = sum(len(prose(300 + number).split()) for number in range(7))
    assert f"lines: {(lines['tokens'] - 7) / words:.3f}" in said, "tokens a word"


def test_separators_are_no_part_of_the_rates() -> None:
    assert rates({"tokens": 12, "words": 5, "characters": 40, "byte_tokens": 1}, documents=2) == (2, 4, 0.1)


def test_bars_are_as_long_as_their_values() -> None:
    values = {"a & b": 10.0, "x" * 40: 5.0, "nothing": 0.0}
    root = ElementTree.fromstring(bar_chart("A <title>", values, {label: f"{v:g} <" for label, v in values.items()}))
    bars = [float(rect.attrib["width"]) for rect in root.iter("rect") if rect.attrib["class"] == "bar"]
    room = float(next(rect for rect in root.iter("rect")).attrib["width"])
    assert bars == [room, pytest.approx(room / 2, abs=0.1), 0]
    assert root.find("title").text == "A <title>"
    assert root.find("desc").text == f"a & b: 10 <; {'x' * 40}: 5 <; nothing: 0 <"
    labels = [text.text for text in root.iter("text")]
    assert labels[::2] == ["a & b", "x" * 26 + "…", "nothing"]


def test_the_report_command(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def kilobatch(*words: str | Path) -> str:
        cli.app(["report", *map(str, words)], standalone_mode=False)
        return capsys.readouterr().out

    assert kilobatch(corpus) == f"{corpus / 'report.html'}\n"
    again = tmp_path / "again.html"
    assert kilobatch(corpus, "--output", again) == f"{again}\n"
    assert again.read_bytes() == (corpus / "report.html").read_bytes(), "the manifest's file gives the same bytes"
    tiny = tiny_corpus(tmp_path / "tiny")
    with pytest.raises(InputError, match=r"tiny: has no report\.html"):
        kilobatch(tiny)
    with pytest.raises(InputError, match=r"tiny: its manifest says no 'counts'; another version wrote it"):
        kilobatch(tiny, "--output", again)
    flip_byte(corpus / "report.html", 1000)
    with pytest.raises(DigestError, match=r"report\.html: SHA-256"):
        kilobatch(corpus)
    flip_byte(corpus / "report.html", 1000)
