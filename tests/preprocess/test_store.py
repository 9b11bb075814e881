"""Inputs in an object store, through Beam's filesystems: a filesystem of ours stands for one."""

import bz2
import io
import json
import shutil
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.io.aws.clients.s3 import boto3_client, messages
from apache_beam.io.filesystem import FileMetadata, FileSystem

from pipeline.errors import InputError
from pipeline.files import read_json
from preprocess import sources
from preprocess.config import BooksSource, JsonlSource, Source, TableSource, TextSource, WikipediaSource
from preprocess.records import Item, Unit
from preprocess.run import run
from preprocess.sources import store
from tests.preprocess.small import page, prose, small_config, write_raw
from tests.preprocess.test_multistream import multistream
from tests.preprocess.test_sources import write_table


class Bucket(FileSystem):  # type: ignore[misc]
    """`bucket://…`: the files of a folder. Beam finds it by its scheme; what readers do not need it does not have."""

    folder = Path()
    opened: list[str] = []  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        self.asked.append(prefix)
        for path in self.folder.rglob("*"):
            name = f"bucket://{path.relative_to(self.folder)}"
            if path.is_file() and name.startswith(prefix):
                yield FileMetadata(name, path.stat().st_size)

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> Any:
        assert compression_type == "uncompressed"
        self.opened.append(path)
        file = self.folder / path.removeprefix("bucket://")
        if (file.stat().st_mode & 0o777) == 0:
            raise OSError("403 Forbidden\nwith a second line")
        return io.BytesIO(file.read_bytes())

    def join(self, *parts: str) -> Any:
        return "/".join(parts)

    def split(self, path: str) -> Any:
        return path.rsplit("/", 1)

    def has_dirs(self) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return (self.folder / path.removeprefix("bucket://")).is_file()

    def size(self, path: str) -> int:
        self.asked.append(path)
        return (self.folder / path.removeprefix("bucket://")).stat().st_size

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path))

    copy = create = delete = last_updated = mkdirs = rename = checksum = None


Bucket.__abstractmethods__ = frozenset()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    monkeypatch.setattr(Bucket, "folder", folder)
    monkeypatch.setattr(Bucket, "opened", [])
    monkeypatch.setattr(Bucket, "asked", [])
    return folder


def read(source: Source) -> tuple[list[Unit], list[Item]]:
    units = sources.list_units([source])
    return units, [item for unit in units for item in sources.read(unit)]


def test_globs_match_in_the_store(bucket: Path) -> None:
    for name in ("a/x.txt", "a/y.txt", "a/b/z.txt", "a/n.md"):
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_text(f"in {name}")
    paths = ["bucket://a/*.txt", "bucket://a/x.txt", "bucket://a/b/z.txt"]
    units, items = read(TextSource(paths=paths))
    assert [(unit.name, unit.path) for unit in units] == [
        ("b/z.txt", "bucket://a/b/z.txt"), ("x.txt", "bucket://a/x.txt"), ("y.txt", "bucket://a/y.txt")
    ]  # fmt: skip
    assert [getattr(item, "text", None) for item in items] == ["in a/b/z.txt", "in a/x.txt", "in a/y.txt"]
    here, _ = read(TextSource(paths=[f"{bucket}/a/*.txt", f"{bucket}/a/b/z.txt"]))
    assert [(unit.name, unit.sha256, unit.bytes) for unit in here] == [
        (unit.name, unit.sha256, unit.bytes) for unit in units
    ]
    mixed, _ = read(BooksSource(paths=["bucket://a/n.md", f"{bucket}/a/x.txt"]))
    assert mixed[0].name == "bucket/a/n.md"


@pytest.mark.parametrize("kind", [TextSource, JsonlSource, WikipediaSource, TableSource])
def test_the_sizes_of_many_files_are_asked_for_at_once(bucket: Path, kind: type[JsonlSource | TextSource]) -> None:
    for number in range(30):
        (bucket / f"{number:02d}").write_text("{}\n" * (number + 1))
    units = sources.list_units([kind(paths=["bucket://*"])])
    assert [unit.bytes for unit in units] == [3 * (number + 1) for number in range(30)]
    assert Bucket.asked == ["bucket://"]


@pytest.mark.parametrize("kind", ["multistream", "bz2", "jsonl", "parquet", "arrow file", "arrow stream"])
def test_every_kind_of_file_is_read_in_the_same_ranges_as_here(bucket: Path, kind: str) -> None:
    path = bucket / "input"
    source: type[WikipediaSource | JsonlSource | TableSource] = TableSource
    if kind in ("multistream", "bz2"):
        source, pages = WikipediaSource, [page(n, prose(n, 3)) for n in range(30)]
        path.write_bytes(multistream(pages, 2) if kind == "multistream" else bz2.compress(multistream(pages, 2)))
        if kind == "bz2":
            path.write_bytes(bz2.compress(bz2.decompress(multistream(pages, 2))))
    elif kind == "jsonl":
        source = JsonlSource
        path.write_text("".join(json.dumps({"text": prose(n, 3)}) + "\n" for n in range(30)))
    else:
        write_table(path, pa.table({"text": [prose(n, 3) for n in range(700)]}), kind)
    for range_bytes in (500, 10**9):
        units, items = read(source(paths=["bucket://input"], range_bytes=range_bytes))
        here, expected = read(source(paths=[str(path)], range_bytes=range_bytes))
        assert items == expected
        assert len(items) >= 30
        assert [(u.begin, u.end, u.before, u.sha256) for u in units] == [
            (u.begin, u.end, u.before, u.sha256) for u in here
        ]


def test_a_corpus_from_a_store_is_the_one_from_here(bucket: Path, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    here = small_config(tmp_path / "raw", tmp_path / "here")
    shutil.copytree(tmp_path / "raw", bucket / "raw")
    there = small_config(Path("/raw"), tmp_path / "there").model_dump(mode="json")
    for source in there["sources"]:
        source["paths"] = [path.replace("/raw/", "bucket://raw/") for path in source["paths"]]
    there = small_config(Path("/raw"), tmp_path / "there", sources=there["sources"])
    assert read_json(run(there) / "manifest.json")["digest"] == read_json(run(here) / "manifest.json")["digest"]
    assert "bucket://raw/wiki.xml.bz2" in Bucket.opened


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("bucket://none", "bucket://none: no such file, in source 'text'$"),
        ("bucket://*.none", "matches no file, in source 'text'$"),
        ("bucket://empty", "an empty file"),
        ("bucket://secret", r"bucket://secret: cannot be read: 403 Forbidden with a second line; accepted: gs://"),
        ("unknown://a/b", r"unknown://a/b: cannot be read: .*; accepted: gs://, s3://, hdfs://$"),
    ],
)
def test_what_a_store_does_not_have(bucket: Path, path: str, message: str) -> None:
    (bucket / "empty").touch()
    (bucket / "secret").write_text("secret")
    (bucket / "secret").chmod(0)
    with pytest.raises(InputError, match=message) as caught:
        read(TextSource(paths=[path]))
    assert "\n" not in str(caught.value)


class Refusing:
    """A client of S3 that says what boto3's would, or nothing."""

    says: Any = None

    def __init__(self, options: object) -> None:
        pass

    def list(self, request: messages.ListRequest) -> None:
        assert (request.bucket, request.prefix) == ("b", "texts/")
        if self.says is None:
            threading.Event().wait()
        raise self.says


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            messages.S3ClientError('Could not connect to the endpoint URL: "http://x/"'),
            r'Could not .* URL: "http://x/"',
        ),
        (messages.S3ClientError("Unable to locate credentials"), "Unable to locate credentials"),
        (messages.S3ClientError("An error occurred (InvalidAccessKeyId)", 403), r"An error occurred \(Invalid\w+\)"),
        (None, "nobody answers within 0.1 seconds"),
    ],
)
def test_a_store_that_refuses_is_asked_once(says: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3_client, "Client", Refusing)
    monkeypatch.setattr(Refusing, "says", says)
    monkeypatch.setattr(store, "find_spec", lambda module: module)  # as if it were installed
    monkeypatch.setattr(store, "PATIENCE", 0.1 if says is None else 60)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it asks again"))
    with pytest.raises(InputError, match=rf"^s3://b/texts/\*\.txt: cannot be read: {message}$"):
        sources.list_units([TextSource(paths=["s3://b/texts/*.txt"])])


def test_s3_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it asks again"))
    with pytest.raises(InputError, match=r"^s3://b/x: cannot be read: Could not connect to the endpoint URL"):
        sources.list_units([TextSource(paths=["s3://b/x"])])


def test_a_store_that_breaks_off_while_a_file_is_read(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise messages.S3ClientError("the connection was closed", None)

    (bucket / "a.txt").write_text("text")
    monkeypatch.setattr(Bucket, "open", lambda *_, **__: Broken())
    with pytest.raises(InputError, match=r"^bucket://a\.txt: cannot be read: the connection was closed; accepted: "):
        sources.list_units([TextSource(paths=["bucket://a.txt"])])


@pytest.mark.parametrize("scheme", ["gs", "hdfs", *([] if find_spec("boto3") else ["s3"])])
def test_a_store_whose_client_is_not_installed(scheme: str) -> None:
    with pytest.raises(InputError, match=rf"^{scheme}://b/x: cannot be read: .*; is kilobatch\[\w+\] installed\?$"):
        read(TextSource(paths=[f"{scheme}://b/x"]))
