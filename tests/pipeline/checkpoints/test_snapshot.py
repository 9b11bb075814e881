"""What is written of a snapshot is what safetensors writes of the tensors, as they were when it was taken."""

import hashlib
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load
from safetensors.numpy import save as saved_by_safetensors

from pipeline.checkpoints.snapshot import Snapshot
from pipeline.engine.engine import Fragment
from pipeline.files import BLOCK_BYTES, write_digested

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8)


def written(snapshot: Snapshot) -> bytes:
    return b"".join(snapshot.blocks())


@given(st.dictionaries(NAMES, st.tuples(st.integers(0, 2**40), st.integers(0, 9)), max_size=5), st.integers(1, 3))
def test_the_bytes_are_those_of_safetensors(ranges: dict[str, tuple[int, int]], states: int) -> None:
    fragments, arrays = [], {}
    for name, (begin, length) in ranges.items():
        tensors = {f"state-{i}": torch.randn(length) for i in range(states)}
        fragments.append(Fragment(name, begin, tensors))
        arrays |= {f"{state}/{name}/{begin}": tensor.numpy() for state, tensor in tensors.items() if length}
    snapshot = Snapshot()
    snapshot.take(fragments)
    assert written(snapshot) == saved_by_safetensors(arrays)
    assert snapshot.size == len(written(snapshot))


def test_later_changes_are_not_in_it_until_it_is_taken_again() -> None:
    weight = torch.arange(4.0)
    snapshot = Snapshot()
    snapshot.take([Fragment("w", 0, {"weight": weight})])
    before = written(snapshot)
    weight += 1
    assert written(snapshot) == before
    memory = snapshot.values
    snapshot.take([Fragment("w", 0, {"weight": weight})])
    assert snapshot.values is memory
    assert load(written(snapshot))["weight/w/0"].tolist() == [1, 2, 3, 4]


def test_a_file_of_many_blocks_is_digested_on_the_way(tmp_path: Path) -> None:
    weight = torch.randn(BLOCK_BYTES // 2 + 1)
    snapshot = Snapshot()
    snapshot.take([Fragment("w", 7, {"weight": weight, "exp_avg": weight})])
    digest = write_digested(tmp_path / "file", snapshot.blocks())
    data = (tmp_path / "file").read_bytes()
    assert digest == hashlib.sha256(data).digest()
    assert {key: array.tobytes() for key, array in load(data).items()} == dict.fromkeys(
        ("exp_avg/w/7", "weight/w/7"), weight.numpy().tobytes()
    )
