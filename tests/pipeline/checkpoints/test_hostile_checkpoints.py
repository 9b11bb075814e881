"""A checkpoint that somebody made to do harm, its digests all in order: refused, nothing run, nothing outside read."""

import json
import os
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import tensor_file
from pipeline.checkpoints.checkpoint import Pieces
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.errors import DigestError, UserError
from pipeline.files import MANIFEST, read_json, seal, write_json
from tests.checkpoints import WEIGHTS, checkpoint, put_tensors, reseal

ROW = np.zeros(4, np.float32)
SOUND = {"weight/w/0": ROW, "exp_avg/w/0": ROW}

_listening: list[list[str]] = []
sys.addaudithook(
    lambda event, arguments: _listening[-1].append(str(arguments[0])) if event == "open" and _listening else None
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    for step in (10, 20):
        checkpoint(folder, step)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / WEIGHTS).write_bytes((folder.checkpoint(20) / WEIGHTS).read_bytes())
    (outside / MANIFEST).write_bytes((folder.checkpoint(20) / MANIFEST).read_bytes())
    return folder


@pytest.fixture
def read(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whatever this process opens, with links resolved."""
    paths: list[str] = []
    safe_open = tensor_file.safe_open

    def spy(path: Path, *arguments: Any) -> Any:
        paths.append(str(path))
        return safe_open(path, *arguments)

    monkeypatch.setattr(tensor_file, "safe_open", spy)
    _listening.append(paths)
    yield paths
    _listening.pop()


def passed_over(run: RunFolder, read: list[str]) -> str:
    """Why the newest checkpoint was refused, after the one before it was taken and nothing outside read."""
    manifest, broken = run.to_resume("auto")
    assert manifest is not None
    assert manifest["step"] == 10
    (error,) = broken
    resolved = {os.path.realpath(path) for path in read if path.startswith(str(run.path.parent))}
    assert resolved, "the spy is deaf"
    assert all(path.startswith(os.path.realpath(run.path)) for path in resolved), resolved
    assert len(str(error).splitlines()) == 1
    return str(error)


def forge(folder: Path, **changed: Any) -> None:
    """Change what a manifest says, under a digest that holds."""
    write_json(folder / MANIFEST, seal({**read_json(folder / MANIFEST), **changed}))


@pytest.mark.parametrize(
    "name",
    [f"../step-00000010/{WEIGHTS}", f"../../../outside/{WEIGHTS}", f"x/../{WEIGHTS}", f"{{outside}}/{WEIGHTS}", "..", 
     ".", "", "/", "..\\outside", "x\0y", "x\x1b[2J", "x" * 300, MANIFEST],
)  # fmt: skip
def test_file_names_that_lead_outside(run: RunFolder, read: list[str], name: str) -> None:
    folder = run.checkpoint(20)
    entry = read_json(folder / MANIFEST)["files"][WEIGHTS]
    forge(folder, files={name.format(outside=run.path.parent / "outside"): entry})
    message = passed_over(run, read)
    assert message.isprintable()


@pytest.mark.parametrize("link", ["file", "folder", "manifest", "checkpoint"])
def test_symbolic_links_to_outside(run: RunFolder, read: list[str], link: str) -> None:
    """What they lead to is as the digests say, so nothing but the link itself gives it away."""
    folder, outside = run.checkpoint(20), run.path.parent / "outside"
    match link:
        case "file":
            (folder / WEIGHTS).unlink()
            (folder / WEIGHTS).symlink_to(outside / WEIGHTS)
        case "folder":
            (folder / WEIGHTS).unlink()
            (folder / "sub").symlink_to(outside)
            manifest = read_json(folder / MANIFEST)
            forge(folder, files={f"sub/{WEIGHTS}": manifest["files"][WEIGHTS]})
        case "manifest":
            (folder / MANIFEST).unlink()
            (folder / MANIFEST).symlink_to(outside / MANIFEST)
        case "checkpoint":
            folder.rename(run.path / "aside")
            folder.symlink_to(outside)
    assert "a symbolic link" in passed_over(run, read)


class Payload:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.marker), os.O_CREAT)


PICKLES: dict[str, Callable[[Any, Path], None]] = {
    "pickle": lambda value, path: path.write_bytes(pickle.dumps(value)) and None,
    "torch": lambda value, path: torch.save(value, path),
    "old torch": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_place_of_tensors(run: RunFolder, read: list[str], tmp_path: Path, kind: str) -> None:
    folder, marker = run.checkpoint(20), tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload is harmless"
    marker.unlink()
    PICKLES[kind]({"w": Payload(marker)}, folder / WEIGHTS)
    reseal(folder)
    read.clear()
    assert f"{folder / WEIGHTS}: not a safetensors file: " in passed_over(run, read)
    with pytest.raises(DigestError, match="not a safetensors file"):
        Pieces(folder, read_json(folder / MANIFEST))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "data.pkl", "sub/rng_state.pth"])
def test_a_pickle_beside_a_checkpoint_is_not_opened(run: RunFolder, read: list[str], name: str) -> None:
    path = run.checkpoint(20) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(Payload(run.path / "executed")))
    read.clear()
    manifest, broken = run.to_resume("auto")
    assert manifest is not None
    assert (manifest["step"], broken) == (20, [])
    assert str(path) not in read
    assert not (run.path / "executed").exists()


def tensor(begin: int, end: int, shape: tuple[int, ...] = (4,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


WEIGHT, MOMENT = '"weight/w/0": ' + json.dumps(tensor(0, 16)), '"exp_avg/w/0": ' + json.dumps(tensor(16, 32))
HEADERS: dict[str, tuple[str, int | None]] = {
    "longer than the file": (f"{{{WEIGHT}, {MOMENT}}}", 2**20),
    "longer than any memory": (f"{{{WEIGHT}, {MOMENT}}}", 2**64 - 1),
    "beyond the end": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(2**40, 2**40 + 16)}), None),
    "before the beginning": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(-16, 0)}), None),
    "overlapping": (json.dumps({"weight/w/0": tensor(0, 32, (8,)), "exp_avg/w/0": tensor(16, 32)}), None),
    "the same bytes": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(0, 16)}), None),
    "backwards": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(32, 16)}), None),
    "of no size": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(16, 32, (2**62, 2**62))}), None),
    "of another size": (json.dumps({"weight/w/0": tensor(0, 16), "exp_avg/w/0": tensor(16, 32, (5,))}), None),
    "a name twice": (f"{{{WEIGHT}, {MOMENT}, {MOMENT}}}", None),
    "a key twice": (f"{{{WEIGHT}, {MOMENT[:-1]}, \"dtype\": \"F32\"}}}}", None),
    "no JSON": ("{", None),
    "deep": ("[" * 50_000, None),
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_do_not_fit(run: RunFolder, read: list[str], header: str) -> None:
    folder, (text, length) = run.checkpoint(20), HEADERS[header]
    data = struct.pack("<Q", len(text) if length is None else length) + text.encode() + bytes(32)
    (folder / WEIGHTS).write_bytes(data)
    reseal(folder)
    assert passed_over(run, read).startswith(f"{folder / WEIGHTS}: not a safetensors file: ")


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "of another name": ({**SOUND, "weight/v/0": ROW}, "holds 'weight/v/0', which the manifest does not speak of"),
    "of another state": ({**SOUND, "exp_avg_sq/w/0": ROW}, "holds 'exp_avg_sq/w/0', which"),
    "like a path": ({**SOUND, "../../w/0": ROW}, "holds '../../w/0', which"),
    "without a place": ({**SOUND, "weight/w": ROW}, "holds 'weight/w', which"),
    "before the first": ({**SOUND, "weight/w/-4": ROW}, "holds 'weight/w/-4', which"),
    "in other digits": ({**SOUND, "weight/w/٤": ROW}, "holds 'weight/w/٤', which"),
    "twice by another spelling": ({**SOUND, "weight/w/00": ROW}, "holds 'weight/w/00', which"),
    "beyond its shape": ({**SOUND, "weight/w/4": ROW}, "weight/w is not whole: element 4 is too many"),
    "twice in part": ({**SOUND, "weight/w/2": ROW[:2]}, "weight/w is not whole: element 2 is too many"),
    "not there": ({"weight/w/0": ROW}, "exp_avg/w is not whole: elements 0 to 3 are missing"),
    "with a hole": (
        {**SOUND, "weight/w/0": ROW[:1], "weight/w/2": ROW[2:]},
        "weight/w is not whole: elements 1 to 1 are missing",
    ),
    "in half precision": ({**SOUND, "weight/w/0": ROW.astype(np.float16)}, "'weight/w/0' is F16 of shape [4]"),
    "of two dimensions": ({**SOUND, "weight/w/0": ROW.reshape(2, 2)}, "'weight/w/0' is F32 of shape [2, 2]"),
    "none": ({}, "weight/w is not whole: elements 0 to 3 are missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_not_the_manifests(run: RunFolder, read: list[str], case: str) -> None:
    arrays, why = TENSORS[case]
    put_tensors(run.checkpoint(20), arrays)
    assert why in passed_over(run, read)


LOSS_SCALE = {"cur_scale": 1.0, "cur_iter": 0, "last_overflow_iter": -1, "cur_hysteresis": 1, "overflows": 0}
MANIFESTS: dict[str, dict[str, Any]] = {
    "more than any memory": {"tensors": {"w": [2**40, 2**40]}},
    "negative": {"tensors": {"w": [-2, -2]}},
    "of states without a tensor": {"states": {"v": ["exp_avg"], "w": ["exp_avg"]}},
    "of tensors without states": {"states": {}},
    "another step's": {"step": 10},
    "a step that is text": {"step": "20"},
    "more updates than a tensor can count": {"updates": 10**30},
    "updates that are true": {"updates": True},
    "a position before the first": {"jumps": -5},
    "a roll-back to nowhere": {"rolled_back_to": -2},
    "dimensions whose product cannot be written": {"tensors": {"w": [2**39] * 2_000}},
    "a name that steers a terminal": {"tensors": {"w\x1b[2J\n": [2, 2]}, "states": {"w\x1b[2J\n": ["exp_avg"]}},
    "a state that steers a terminal": {"states": {"w": ["exp_avg\x1b[2J"]}},
    "a loss scale that turns gradients around": {"loss_scale": {**LOSS_SCALE, "cur_scale": -1.0}},
    "a size of thirty digits": {"files": {WEIGHTS: {"bytes": 10**30, "sha256": ""}}},
    "no files": {"files": {}},
    "a file that is a list": {"files": {WEIGHTS: []}},
    "a size that is text": {"files": {WEIGHTS: {"bytes": "9", "sha256": ""}}},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_lie(run: RunFolder, read: list[str], case: str) -> None:
    forge(run.checkpoint(20), **MANIFESTS[case])
    tracemalloc.start()
    try:
        message = passed_over(run, read)
        assert str(run.checkpoint(20)) in message
        assert message.isprintable()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_loss_scale_is_no_lie(run: RunFolder) -> None:
    """What the tests above change is all that is refused."""
    forge(run.checkpoint(20), loss_scale=LOSS_SCALE)
    assert run.to_resume("auto")[1] == []


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": lambda path: socket(AF_UNIX).bind(os.path.relpath(path)),  # whose whole path may be too long for one
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "more.safetensors", ""])
def test_what_is_no_file_is_not_waited_for(
    run: RunFolder, read: list[str], monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    """Who opens a pipe to read waits until somebody writes."""
    folder = run.checkpoint(20)
    monkeypatch.chdir(run.checkpoints)
    if name:
        (folder / name).unlink(missing_ok=True)
    else:
        folder.rename(run.path / "aside")
    KINDS[kind](folder / name)
    assert str(folder) in passed_over(run, read)


@pytest.mark.parametrize("text", ['{"step": 10, ', '{"files": {}, '])
def test_a_manifest_that_says_a_thing_twice(run: RunFolder, read: list[str], text: str) -> None:
    """Python reads the last, whoever looks at it the first."""
    path = run.checkpoint(20) / MANIFEST
    path.write_text(text + path.read_text().lstrip("{"))
    assert "is given twice" in passed_over(run, read)


@pytest.mark.parametrize("data", [b"[" * 10**6, b'{"step": ' + b"9" * 10**5 + b"}", b"\xff\xfe", b"null", b"\x80\x04."])
def test_a_manifest_that_is_none(run: RunFolder, read: list[str], data: bytes) -> None:
    (run.checkpoint(20) / MANIFEST).write_bytes(data)
    assert str(run.checkpoint(20) / MANIFEST) in passed_over(run, read)


def test_pieces_look_for_themselves(run: RunFolder) -> None:
    """Whoever loads without verifying is not led astray either."""
    put_tensors(run.checkpoint(20), {**SOUND, "weight/w/2": ROW[:2]})
    with pytest.raises(UserError, match="is not whole"):
        Pieces(run.checkpoint(20), read_json(run.checkpoint(20) / MANIFEST))
