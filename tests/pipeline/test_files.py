"""Atomic files, manifests and digests: nothing half-written, nothing altered, nothing outside the folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import DigestError, InputError, UserError
from tests.conftest import flip_byte

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@given(JSON)
def test_canonical_json_is_one_ascii_text_that_reads_back(value: Any) -> None:
    text = files.canonical_json(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert files.canonical_json({"b": 1, "a": [1.5, "é"]}) == b'{"a":[1.5,"\\u00e9"],"b":1}'
    assert files.digest_of({"b": 1, "a": 2}) == files.digest_of({"a": 2, "b": 1}) != files.digest_of({"a": 1, "b": 2})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_canonical_json_refuses_what_json_does_not_have(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        files.canonical_json(value)


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.name.startswith(files.TEMPORARY)
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names_in(path.parent) == ["file"]


def test_a_task_brings_no_folder_of_a_stopped_run_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.work_folder(tmp_path / "corpus") as work:  # noqa: PT012
        (work / "documents").mkdir()
        with files.atomic_path(work / "documents" / "unit") as temporary:
            temporary.touch()
            work.rename(tmp_path / "removed")
    assert names_in(tmp_path) == ["removed"]


def test_two_writers_of_a_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    """Two machines can have the same process id."""
    path = tmp_path / "file"
    with files.atomic_path(path) as one, files.atomic_path(path) as other:
        one.write_text("whole")
        other.write_text("wh")
        other.write_text("whole")
        assert one.read_text() == "whole"
    assert path.read_text() == "whole"
    assert names_in(tmp_path) == ["file"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"new, but not")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_value_that_is_not_json_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert files.read_json(path) == {"loss": 1.0}
    assert names_in(tmp_path) == ["file"]


def test_publish_folder(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "temporary" / "file").write_bytes(b"new")
    files.publish_folder(tmp_path / "temporary", tmp_path / "final")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["final", "final/file"]


def test_publish_folder_never_replaces_a_finished_one(tmp_path: Path) -> None:
    for name in ("temporary", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(OSError, match="not empty"):
        files.publish_folder(tmp_path / "temporary", tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "final"


def test_a_work_folder_is_empty_locked_and_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{files.TEMPORARY}model"
    (left / "half").mkdir(parents=True)
    with files.work_folder(tmp_path / "model") as work:
        assert (work.parent, list(left.iterdir()), list(work.iterdir())) == (left, [work], []), "what was left is gone"
        with (
            pytest.raises(InputError, match="another run is writing it now"),
            files.work_folder(tmp_path / "model"),
        ):
            pass
        with files.work_folder(tmp_path / "other"):
            pass  # neighbours do not meet
        (work / "part").mkdir()
        files.publish_folder(work / "part", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with files.work_folder(tmp_path / "again") as next_one:
        assert next_one != work
    with pytest.raises(BlockingIOError), files.work_folder(tmp_path / "again"):
        raise BlockingIOError  # the body's errors are its own
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_whether_an_output_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.check_writable(tmp_path / "a" / "b")
    files.check_writable(tmp_path)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make '.*file/b': .*file is no folder"):
        files.check_writable(tmp_path / "file" / "b")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    with pytest.raises(InputError, match="no permission to write to"):
        files.check_writable(tmp_path / "a")


def test_remove_unfinished_removes_that_alone(tmp_path: Path) -> None:
    for name in ("keep", f"{files.TEMPORARY}folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / f"{files.TEMPORARY}1-file").write_text("x")
    (tmp_path / f"{files.TEMPORARY}link").symlink_to(tmp_path / "keep")
    files.remove_unfinished(tmp_path)
    assert names_in(tmp_path) == ["keep"]
    assert names_in(tmp_path / "keep") == ["file"]


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "a/..", "/etc/passwd", "a\\b", "..\\x", "", "."])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="leads outside the folder"):
        files.inside(tmp_path, name)


@pytest.mark.parametrize("name", ["x", "a/b/c", ".hidden", "a..b", "...", "a b"])
def test_plain_names_stay_inside(tmp_path: Path, name: str) -> None:
    assert files.inside(tmp_path, name) == tmp_path / name


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "file").write_bytes(b"secret")
    (folder / "file").symlink_to(outside / "file")
    (folder / "nested").symlink_to(outside)
    (folder / "dangling").symlink_to(outside / "nothing")
    for name in ("file", "nested/file", "dangling"):
        with pytest.raises(InputError, match="symbolic link"):
            files.inside(folder, name)
        with pytest.raises(InputError, match="symbolic link"):
            files.verify_file(folder, name, {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()})


def test_verify_file_names_file_expected_and_found(tmp_path: Path) -> None:
    path = tmp_path / "data" / "file"
    path.parent.mkdir()
    path.write_bytes(b"twelve bytes")
    entry = files.describe_files(tmp_path, ["data/file"])["data/file"]
    expected = hashlib.sha256(b"twelve bytes").hexdigest()
    assert entry == {"bytes": 12, "sha256": expected}
    assert files.verify_file(tmp_path, "data/file", entry) == path

    flip_byte(path, 3)
    with pytest.raises(DigestError) as flipped:
        files.verify_file(tmp_path, "data/file", entry)
    assert str(flipped.value) == f"{path}: SHA-256 {files.file_sha256(path)}, expected {expected}"

    path.write_bytes(b"twelve")
    with pytest.raises(DigestError) as truncated:
        files.verify_file(tmp_path, "data/file", entry)
    assert str(truncated.value) == f"{path}: 6 bytes, expected 12, SHA-256 {expected}"

    path.unlink()
    with pytest.raises(DigestError) as missing:
        files.verify_file(tmp_path, "data/file", entry)
    assert str(missing.value) == f"{path}: missing; expected 12 bytes, SHA-256 {expected}"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    manifest = files.seal({"kind": "corpus", "format": 1, "files": {"a": {"bytes": 1, "sha256": "00"}}, "count": 12})
    files.write_json(tmp_path / files.MANIFEST, manifest)
    return tmp_path


def test_a_sealed_manifest_is_read(sealed: Path) -> None:
    assert files.read_manifest(sealed, "corpus", 1)["count"] == 12
    manifest = files.read_manifest(sealed, "corpus", 1)
    assert files.seal(manifest) == manifest  # sealing again changes nothing


@pytest.mark.parametrize(
    "change", [{"count": 13}, {"files": {}}, {"more": None}, {"digest": "0" * 64}, {"digest": None}]
)
def test_an_altered_manifest_is_refused(sealed: Path, change: dict[str, Any]) -> None:
    path = sealed / files.MANIFEST
    files.write_json(path, files.read_json(path) | change)
    with pytest.raises(DigestError) as caught:
        files.read_manifest(sealed, "corpus", 1)
    written = files.read_json(path)
    assert str(caught.value) == (
        f"{path}: SHA-256 of its contents {files.seal(written)['digest']}, expected {written['digest']}"
    )


def test_another_kind_or_format_is_named(sealed: Path) -> None:
    with pytest.raises(InputError, match="kind 'corpus', expected 'checkpoint'"):
        files.read_manifest(sealed, "checkpoint", 1)
    with pytest.raises(InputError, match="format 1; this version of Kilobatch reads 2"):
        files.read_manifest(sealed, "corpus", 2)


def test_a_folder_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"no manifest\.json here; expected a finished corpus folder"):
            files.read_manifest(folder, "corpus", 1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"files": None}, "files: input should be"),
        ({"files": {"a": {"bytes": 1}}}, "files.a.sha256: field required"),
        ({"files": {"a": {"bytes": "1", "sha256": ""}}}, "files.a.bytes: input should be"),
    ],
)
def test_a_manifest_that_another_program_sealed(sealed: Path, change: dict[str, Any], complaint: str) -> None:
    path = sealed / files.MANIFEST
    files.write_json(path, files.seal(files.read_json(path) | change))
    with pytest.raises(InputError) as caught:
        files.read_manifest(sealed, "corpus", 1)
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert len(str(caught.value).splitlines()) == 1


@given(data=st.data())
def test_any_damage_to_a_manifest_is_a_line_for_people(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever bytes are put in the place of others: it still says the same, or our errors are raised and no others."""
    folder = tmp_path_factory.mktemp("manifest")
    manifest = files.seal({"kind": "corpus", "format": 1, "files": {}, "share": 0.25, "count": 12})
    text = json.dumps(manifest).encode()
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    put = data.draw(
        st.sampled_from([b"", b"\xff", b"\x00", b"NaN", b"1e999", b"{", b'"', b"[" * 3000, b"9" * 5000, b"null"])
    )
    (folder / files.MANIFEST).write_bytes(text[:begin] + put + text[end:])
    try:
        found = files.read_manifest(folder, "corpus", 1)
    except UserError as error:
        message = str(error)
    else:
        assert found == manifest  # only a space was lost
        return
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: Expecting property name"),
        (b"[1]", "expected a JSON object, found list"),
        (b"\xff\xfe", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b'{"a": NaN}', "not JSON: NaN"),
        (b'{"a": 1e999}', "not JSON: 1e999"),
        (b'{"a": [{"stage": 1, "b": 2, "stage": 1}]}', "not JSON: key 'stage' is given twice"),
    ],
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        files.read_json(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_where_a_file_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        files.read_json(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="Is a directory"):
        files.read_json(tmp_path)


def test_damage_is_named_by_the_bytes_of_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 10)
    path = tmp_path / "x.tokens"
    path.write_bytes(bytes(range(95)))
    (tmp_path / "y").write_bytes(b"y")
    table = files.describe_files(tmp_path, ["x.tokens", "y"], in_blocks=(".tokens", ".index"))
    assert len(table["x.tokens"]["blocks"]) == 10
    assert set(table["y"]) == {"bytes", "sha256"}
    assert {key: table["x.tokens"][key] for key in ("bytes", "sha256")} == files.describe_files(tmp_path, ["x.tokens"])[
        "x.tokens"
    ]
    files.verify_files(tmp_path, table)
    for positions, named in (
        ([0], "0 to 9"),
        ([94], "90 to 94"),
        ([29, 30, 49], "20 to 49"),
        ([5, 35, 39, 60], "0 to 9, 30 to 39, 60 to 69"),
        ([0, 20, 40, 60, 80], "0 to 9, 20 to 29, 40 to 49, 60 to 69, …"),
    ):
        for position in positions:
            flip_byte(path, position)
        with pytest.raises(
            DigestError, match=rf"expected {table['x.tokens']['sha256']}; damaged within bytes {named}$"
        ):
            files.verify_files(tmp_path, table)
        for position in positions:
            flip_byte(path, position)
    files.verify_files(tmp_path, table)
