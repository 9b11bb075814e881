"""The commands as a user types them: the real launcher, real ranks, a real signal, then the export."""

import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.evaluate_saved import evaluate
from pipeline.files import MANIFEST, describe_files, read_json, seal, write_json
from pipeline.watching.rank_log import read_events
from tests.conftest import flip_byte
from tests.text import text_corpus

COMMAND = [sys.executable, "-m", "launch.cli"]


def kilobatch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of generated text, and a configuration of two ranks that would train for a long time."""
    folder = tmp_path_factory.mktemp("launcher")
    text_corpus(folder)
    (folder / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}')
    config = {
        "corpus": str(folder / "corpus"),
        "output": str(folder / "run"),
        "model": {
            "num_hidden_layers": 1,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 34,
        },
        "batch": {"train_batch_size": 16, "train_micro_batch_size_per_gpu": 4, "sequence_length": 32},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"total_steps": 100_000},
        "deepspeed": str(folder / "zero1.json"),
        "cpu_ranks": 2,
    }
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(config))
    return folder


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every live process whose command line names this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_stop_signal_saves_and_the_command_goes_on(folder: Path) -> None:
    config, run = str(folder / "pretrain.yaml"), RunFolder(folder / "run")
    shared_memory = set(os.listdir("/dev/shm"))  # noqa: PTH208
    command = subprocess.Popen(
        [*COMMAND, "pretrain", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not (run.metrics.is_file() and run.metrics.read_text().count('"train"') >= 3):
        assert time.monotonic() < deadline
        assert command.poll() is None, command.communicate()[1]
        time.sleep(0.2)
    command.send_signal(signal.SIGTERM)
    _, errors = command.communicate(timeout=120)
    assert command.returncode == 75, errors
    assert errors.count("\n") == 1, errors
    assert "run it again to go on" in errors
    assert not processes_of(folder)
    assert not {name for name in set(os.listdir("/dev/shm")) - shared_memory if "deepspeed" in name}  # noqa: PTH208
    (stopped,) = run.steps()
    last = str(stopped + 2)
    changed = kilobatch("pretrain", config, f"schedule.total_steps={last}")
    assert changed.returncode == 2  # another schedule is another run
    assert f"schedule.total_steps = 100000, the configuration says {last}" in changed.stderr
    again = kilobatch("pretrain", config, f"stop_at_step={last}", "evaluation.every_steps=1")
    assert again.returncode == 75, again.stderr
    assert f"steps {stopped} to 100000" in " ".join(again.stdout.split())
    assert run.steps() == [stopped, stopped + 2]


def test_a_broken_newest_checkpoint_is_passed_over_by_the_command(folder: Path) -> None:
    run, config = RunFolder(folder / "run"), str(folder / "pretrain.yaml")
    older, newest = run.steps()
    manifest = run.checkpoint(newest) / "manifest.json"
    flip_byte(manifest, 3)
    assert kilobatch("pretrain", config, "--dry-run").returncode == 0
    reached = kilobatch("pretrain", config, f"stop_at_step={older}")
    assert reached.returncode == 75
    assert f"{run.checkpoint(older)}: stop_at_step {older} was reached before" in reached.stderr
    shown = kilobatch("checkpoint", "verify", str(run.path))
    assert shown.returncode == 3
    assert f"{run.checkpoint(older)}: sound" in shown.stdout
    flip_byte(manifest, 3)


@pytest.mark.parametrize("seconds", [0.3, 4.0])
def test_a_signal_while_the_ranks_start_is_heard(folder: Path, seconds: float) -> None:
    settings = [f"output={folder / f'early-{seconds}'}", "checkpoint.every_steps=100000"]
    command = subprocess.Popen([*COMMAND, "pretrain", str(folder / "pretrain.yaml"), *settings], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any("pipeline.train" in " ".join(process.cmdline()) for process in processes_of(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(seconds)
    command.send_signal(signal.SIGTERM)
    _, errors = command.communicate(timeout=120)
    assert command.returncode == 75, errors
    assert errors.count(b"\n") == 1, errors
    assert not processes_of(folder)


def test_a_killed_rank_is_told(folder: Path) -> None:
    settings = [f"output={folder / 'killed'}", "restarts.max_restarts=0"]
    command = [*COMMAND, "pretrain", str(folder / "pretrain.yaml"), *settings]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while 1 not in (events := read_events(folder / "killed" / "log", 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(events[1][0]["pid"], signal.SIGKILL)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    killed = "kilobatch: rank 1 was killed by signal 9 (Killed); run it again to go on from step 0"
    assert errors.splitlines()[-1] == killed
    assert not processes_of(folder)


def test_a_full_disk_leaves_the_checkpoints_before_it(folder: Path) -> None:
    """No file may grow beyond a limit that the checkpoint's tensors exceed: every write behind it fails."""
    settings = [f"output={folder / 'full'}", "stop_at_step=2", "restarts.max_restarts=0"]
    limited = subprocess.run(
        ["prlimit", "--fsize=20000", *COMMAND, "pretrain", str(folder / "pretrain.yaml"), *settings],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert limited.returncode == 1
    assert "Traceback" not in limited.stderr
    assert f"{folder / 'full' / 'checkpoints' / 'step-00000002'}: not saved: " in limited.stderr
    assert RunFolder(folder / "full").steps() == []
    assert kilobatch("pretrain", str(folder / "pretrain.yaml"), *settings).returncode == 75
    assert RunFolder(folder / "full").steps() == [2]


def test_a_diverged_run_ends_and_saves_nothing_of_it(folder: Path) -> None:
    run = RunFolder(folder / "diverged")
    settings = [f"output={run.path}", "optimizer.learning_rate=1e30", "checkpoint.every_steps=1"]
    diverged = kilobatch("pretrain", str(folder / "pretrain.yaml"), *settings)
    assert diverged.returncode == 1
    assert diverged.stderr.count("\n") == 1, diverged.stderr
    assert "3 steps in a row, again after 2 roll-back(s) to step " in diverged.stderr
    assert ": the run has diverged and nothing was saved of it" in diverged.stderr
    assert diverged.stdout.count("skipped on all ranks: ") == 9
    assert diverged.stdout.count("rolled back to the checkpoint of step ") == 2
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert all(math.isfinite(line["loss"]) for line in lines if line["event"] == "train")
    (sound,) = run.steps()  # a loss tells of the step before it: that one was saved
    weights = run.checkpoint(sound) / "rank-00000.safetensors"
    arrays = load_file(weights)
    name = next(name for name in arrays if name.startswith("weight/"))
    save_file({**arrays, name: arrays[name] * np.float32("nan")}, weights)
    manifest = read_json(run.checkpoint(sound) / MANIFEST)
    files = describe_files(run.checkpoint(sound), list(manifest["files"]))
    write_json(run.checkpoint(sound) / MANIFEST, seal({**manifest, "files": files}))
    exported = kilobatch("export", str(run.path), str(folder / "diverged-model"))
    assert exported.returncode == 1
    assert exported.stderr.splitlines()[-1].endswith("are not finite numbers: the run diverged")
    assert not (folder / "diverged-model").exists()


def test_a_profile_says_where_the_time_goes_and_changes_nothing(folder: Path) -> None:
    run = RunFolder(folder / "profiled")
    done = kilobatch("pretrain", str(folder / "pretrain.yaml"), f"output={run.path}", "--profile")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for part in ("data wait", "forward", "backward", "counters", "update", "(communication)"):
        assert part in done.stdout
    assert (run.path / "profile" / "tables.txt").read_text() in done.stdout
    events = json.loads((run.path / "profile" / "trace.json").read_text())["traceEvents"]
    labels = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert labels.count("forward") == 3 * 2  # three steps of two micro-batches, the first ones not among them
    assert labels.count("update") == 3
    assert sorted(path.name for path in run.path.iterdir()) == ["profile"]  # no config.yaml either, nor metrics


def test_two_commands_do_not_train_in_one_folder(folder: Path) -> None:
    (folder / "run").mkdir(exist_ok=True)
    descriptor = os.open(folder / "run", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused = kilobatch("pretrain", str(folder / "pretrain.yaml"))
    os.close(descriptor)
    assert refused.returncode == 2
    assert "another run is training here" in refused.stderr


def test_the_export_loads_as_hugging_face_loads_it_and_says_what_it_is(folder: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    done = kilobatch("export", str(folder / "run"), str(folder / "model"))
    assert done.returncode == 0, done.stderr
    assert "logits equal within" in done.stdout
    assert "fill-mask:" in done.stdout
    model = AutoModelForMaskedLM.from_pretrained(folder / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    encoded = tokenizer(f"a {tokenizer.mask_token} b", return_tensors="pt")
    assert torch.isfinite(model(**encoded).logits).all()
    assert {"README.md", "provenance.json", "model.safetensors"} <= {path.name for path in (folder / "model").iterdir()}
    again = kilobatch("export", str(folder / "run"), str(folder / "model"))
    assert again.returncode == 0
    assert "already the export" in " ".join(again.stdout.split())
    flip_byte(folder / "model" / "model.safetensors", 1000)
    damaged = kilobatch("export", str(folder / "run"), str(folder / "model"))
    assert damaged.returncode == 3
    assert damaged.stderr.startswith(f"kilobatch: {folder / 'model' / 'model.safetensors'}: SHA-256 ")
    flip_byte(folder / "model" / "model.safetensors", 1000)
    below_a_file = kilobatch("export", str(folder / "run"), str(folder / "pretrain.yaml" / "model"))
    assert below_a_file.returncode == 2
    assert below_a_file.stderr.count("\n") == 1
    other = kilobatch("export", str(folder / "run"), str(folder / "corpus"))
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1


def test_evaluate_gives_the_number_that_was_logged_and_the_export_the_same(folder: Path) -> None:
    run = RunFolder(folder / "run")
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    logged = {line["step"]: line["loss"] for line in lines if line["event"] == "eval"}
    step = run.steps()[-1]
    scored = kilobatch("evaluate", str(run.path), str(folder / "corpus"), "--pseudo-samples", "1")
    assert scored.returncode == 0, scored.stderr
    said = re.fullmatch(
        r"(.+): held-out loss (\S+), perplexity ([\d,.]+), pseudo-perplexity ([\d,.]+)", scored.stdout.strip()
    )
    assert said
    assert said[1] == str(run.checkpoint(step))
    assert float(said[2]) == logged[step]
    _, exported = evaluate(folder / "model", folder / "corpus")
    assert exported.loss == pytest.approx(logged[step], abs=1e-5)


def test_a_flipped_byte_in_a_shard_is_refused_before_anything_starts(folder: Path) -> None:
    shard = folder / "corpus" / "train-00001-of-00002.tokens"
    flip_byte(shard, 10)
    for command in (["corpus", "verify", str(folder / "corpus")], ["pretrain", str(folder / "pretrain.yaml")]):
        refused = kilobatch(*command)
        assert refused.returncode == 3
        assert refused.stderr.startswith(f"kilobatch: {shard}: SHA-256 ")
        assert "expected " in refused.stderr
        assert refused.stderr.count("\n") == 1
    flip_byte(shard, 10)
