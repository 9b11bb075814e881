"""How a start on this machine is made: which devices, how many ranks, what is said of it, and what environment."""

import base64
import json
from pathlib import Path

import pytest

from launch import local
from launch.local import Devices
from launch.supervise import NotNow
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.configfile import load_config
from pipeline.pretrain_config import PretrainConfig


def names(command: list[str]) -> list[str]:
    """The devices in the launcher's command."""
    (word,) = (word for word in command if word.startswith("--world_info="))
    machines = json.loads(base64.urlsafe_b64decode(word.partition("=")[2]))
    assert list(machines) == ["localhost"]
    return list(machines["localhost"])


@pytest.mark.parametrize(("available", "size"), [(1, 1), (2, 2), (3, 2), (7, 4), (8, 8), (9, 8)])
def test_as_many_ranks_as_divide_the_batch(pretrain_yaml: Path, available: int, size: int) -> None:
    config = load_config(PretrainConfig, pretrain_yaml)  # eight sequences, one a micro-batch
    assert local.fitting(config, available) == size


def test_where_nothing_divides_the_batch_the_plan_says_so(pretrain_yaml: Path) -> None:
    config = load_config(PretrainConfig, pretrain_yaml, ["batch.train_micro_batch_size_per_gpu=3"])
    assert local.fitting(config, 2) == 2


@pytest.mark.parametrize(
    ("visible", "gpus", "found"),
    [(None, 3, ["0", "1", "2"]), ("4,5,6", 3, ["4", "5", "6"]), ("GPU-1a,GPU-2b", 1, ["GPU-1a"]), ("7", 0, ["0", "1"])],
)
def test_devices_are_those_that_are_visible(
    pretrain_yaml: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int, found: list[str]
) -> None:
    config = load_config(PretrainConfig, pretrain_yaml, ["cpu_ranks=2"])
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(local, "_gpus", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.devices(config) == Devices(found, "GPU" if gpus else "CPU")


def test_a_restart_takes_the_devices_that_are_there_then(pretrain_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(PretrainConfig, pretrain_yaml, ["resume=never"])
    run = RunFolder(config.output)
    run.path.mkdir()
    made = local._train(config, run, Devices(["3", "4"], "GPU"), 0).make
    first = made(0)
    assert (first.world_size, first.said, names(first.command)) == (2, "", ["3", "4"])
    assert load_config(PretrainConfig, run.config).resume == "never"

    run.log.mkdir()
    (run.log / "starts.jsonl").write_text('{"event": "start", "start": 1, "world_size": 2}\n')
    monkeypatch.setattr(local, "devices", lambda config: Devices(["3", "4", "6"], "GPU"))
    again = made(1)
    assert again.said == (
        "2 of 3 GPUs, the most that divide the batch: 8 sequences a step = 1 a micro-batch × 4 accumulated × 2 rank(s)"
    )
    assert names(again.command) == ["3", "4"]
    assert load_config(PretrainConfig, run.config).resume == "auto"  # it has checkpoints of its own now

    monkeypatch.setattr(local, "devices", lambda config: Devices(["6"], "GPU"))
    fewer = made(2)
    assert fewer.said == (
        "1 rank(s) where the start before had 2: 8 sequences a step = 1 a micro-batch × 8 accumulated × 1 rank(s)"
    )
    assert names(fewer.command) == ["6"]

    monkeypatch.setattr(local, "devices", lambda config: Devices(["0"], "CPU"))  # as while the driver is reset
    with pytest.raises(NotNow, match="no GPU is found any more"):
        made(3)
    monkeypatch.setattr(local, "devices", lambda config: Devices(["3", "4"], "GPU"))
    assert names(made(4).command) == ["3", "4"]

    config.corpus.rename(config.corpus.with_name("away"))  # a rank would call it a mistake of the user's
    with pytest.raises(FileNotFoundError):
        made(5)


def test_a_run_that_began_on_cpus_stays_on_them(pretrain_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan was checked for them; the next command may have GPUs."""
    config = load_config(PretrainConfig, pretrain_yaml)
    run = RunFolder(config.output)
    run.log.mkdir(parents=True)
    made = local._train(config, run, Devices(["0", "1"], "CPU"), 0).make
    monkeypatch.setattr(local, "devices", lambda config: Devices(["3"], "GPU"))
    again = made(1)
    assert (again.world_size, again.environment["DS_ACCELERATOR"]) == (2, "cpu")
