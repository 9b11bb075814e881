"""Losses and gradients that are not finite, on one rank of two: skipped on both, rolled back after three in a row."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.checkpoints.run_folder import RunFolder, verify_checkpoint
from pipeline.configfile import dump_config, load_config
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.integration.bad_micro_batches import train_with
from tests.integration.flipped_bit import train_flipped
from tests.ranks import forked_ranks, run_ranks

SETTINGS = ["batch.train_batch_size=16", "batch.train_micro_batch_size_per_gpu=2", "schedule.total_steps=10"]
SETTINGS += ["optimizer.learning_rate=1e-2", "evaluation.every_steps=7", "evaluation.samples=8"]
SETTINGS += ["checkpoint.every_steps=2"]
MICRO_BATCHES = 8  # a step
BF16 = {"bf16": {"enabled": True}}
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}


def resolved(config: Path, output: Path, overrides: list[str]) -> Path:
    loaded = load_config(PretrainConfig, config, [*SETTINGS, f"output={output}", *overrides])
    write_bytes(output / "config.yaml", dump_config(loaded).encode())
    return output / "config.yaml"


def test_a_skipped_step_changes_nothing_and_a_flipped_bit_is_found(pretrain_yaml: Path, tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{"zero_optimization": {"stage": stage}} for stage in (0, 1, 2)]
    kinds += [{"zero_optimization": {"stage": 1}, **BF16}, {"zero_optimization": {"stage": 2, **OFFLOAD}}]
    kinds += [{"zero_optimization": {"stage": 2}, **BF16}]
    kinds += [{"zero_optimization": {"stage": 3}}]  # last: it changes torch for the whole process
    kinds += [{"zero_optimization": {"stage": 3, **OFFLOAD}, **BF16}]
    paths = []
    for number, kind in enumerate(kinds):
        settings = tmp_path / f"deepspeed-{number}.json"
        settings.write_text(json.dumps(kind))
        paths.append(str(resolved(pretrain_yaml, tmp_path / f"run-{number}", [f"deepspeed={settings}"])))
    printed = run_ranks(2, ["-m", "tests.integration.skipped_step", *paths])
    kept = [line for line in printed.splitlines() if " kept; found in: " in line]
    found = ["weight, exp_avg, exp_avg_sq", *["weight"] * (len(kinds) - 1)]
    assert kept == [f"{path} kept; found in: {names}" for path, names in zip(paths, found, strict=True)]


def test_of_a_flipped_bit_nothing_is_saved(pretrain_yaml: Path, tmp_path: Path) -> None:
    """At stage 0, where an update would keep it; the run saves every second step, and the fourth changes a bit."""
    settings = tmp_path / "deepspeed.json"
    settings.write_text('{"zero_optimization": {"stage": 0}}')
    path = resolved(pretrain_yaml, tmp_path / "run", ["watchdog.minutes=10"])
    printed = forked_ranks(path, 2, expected=1, work=train_flipped)
    said = next(line for line in printed.splitlines() if line.startswith("kilobatch: "))
    assert said.startswith("kilobatch: step 4: weight of ")
    assert "the 2 ranks differ" in said
    assert "nothing was saved of it" in said
    assert RunFolder(tmp_path / "run").steps() == [2]


def train(config: Path, output: Path, overrides: list[str], expected: int = 0) -> str:
    """A run whose data of steps 5, 6 and 7 (from 0) has a NaN, now on one rank and now on the other."""
    bad = {step * MICRO_BATCHES + step % 2 for step in (5, 6, 7)}
    return forked_ranks(resolved(config, output, overrides), 2, expected, partial(train_with, bad))


def events(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = ("step_seconds", "data_wait_seconds", "tokens_per_second", "mfu", "peak_memory_bytes")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def last_checkpoint(run: Path) -> tuple[dict[str, Any], dict[str, str]]:
    manifest = verify_checkpoint(RunFolder(run).checkpoint(10))
    return manifest, {name: entry["sha256"] for name, entry in manifest["files"].items()}


def test_three_in_a_row_roll_back_and_the_run_goes_on_behind_them(pretrain_yaml: Path, tmp_path: Path) -> None:
    """Steps 1 to 5 are applied, 6 to 8 skipped; from the checkpoint of step 4 it goes on with the data of step 8."""
    whole = tmp_path / "whole"
    printed = train(pretrain_yaml, whole, [])
    assert "step 6/10  skipped on all ranks: the loss is nan on rank 1 (1 in a row)" in printed
    assert "step 8/10  rolled back to the checkpoint of step 4; the next step reads the data of step 9" in printed
    assert printed.count("step 7/10  held-out loss") == 1  # not when it was skipped
    found = events(whole)
    assert [(line["event"], line["step"]) for line in found if line["event"] != "eval"] == [
        *(("train", step) for step in range(1, 5)),
        ("rollback", 4),
        *(("train", step) for step in range(5, 11)),
    ]
    samples = [line["consumed_samples"] // 16 for line in found if line["event"] == "train"]
    assert samples == [1, 2, 3, 4, 9, 10, 11, 12, 13, 14]
    manifest, files = last_checkpoint(whole)
    assert {key: manifest[key] for key in ("step", "updates", "jumps", "skipped_in_a_row")} == {
        "step": 10,
        "updates": 10,
        "jumps": 4,
        "skipped_in_a_row": 0,
    }

    stopped = tmp_path / "stopped"  # before the skipped steps, among them, and behind the roll-back
    train(pretrain_yaml, stopped, ["stop_at_step=5"], expected=75)
    train(pretrain_yaml, stopped, ["stop_at_step=6"], expected=75)
    skipped = verify_checkpoint(RunFolder(stopped).checkpoint(6))
    assert (skipped["updates"], skipped["jumps"], skipped["skipped_in_a_row"]) == (5, 0, 1)
    train(pretrain_yaml, stopped, ["stop_at_step=9"], expected=75)
    behind = verify_checkpoint(RunFolder(stopped).checkpoint(9))
    assert (behind["jumps"], behind["rolled_back_to"], behind["rollbacks"]) == (4, 4, 1)
    train(pretrain_yaml, stopped, [])
    assert last_checkpoint(stopped)[1] == files
    assert events(stopped) == found
