"""What every ZeRO stage sends, counted where it is sent: the table in docs/pretraining.md.

A size is that of the whole that is reduced or gathered: 4 bytes a parameter (2 for weights in bf16) and its padding.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.configfile import dump_config, load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.initial import initial_model
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig
from tests.ranks import run_ranks
from tests.tiny import tiny_corpus

WORLD_SIZE, ACCUMULATED = 2, 3
SETTINGS = ["batch.train_batch_size=6", "batch.train_micro_batch_size_per_gpu=1", "model.hidden_size=16"]
BF16 = {"bf16": {"enabled": True}}
RELEASED = {"stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0}
NUMBERS = 256  # bytes: less is a few counts and norms
Sent = dict[str, int]  # collective → bytes


def zero(stage: int, **settings: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **settings}}


KINDS: dict[str, dict[str, Any]] = {
    "zero0": zero(0),
    "zero1": zero(1),
    "zero2": zero(2),
    "zero1-bf16": zero(1) | BF16,
    "zero2-bf16": zero(2) | BF16,
    "zero3": zero(3, stage3_param_persistence_threshold=0),
    "zero3-bf16": zero(3, stage3_param_persistence_threshold=0) | BF16,
    "zero3-released": zero(3, stage3_param_persistence_threshold=0, **RELEASED),
    "zero3-persistent": zero(3, stage3_param_persistence_threshold=10**9),
}


def counted(config: Path) -> dict[str, dict[str, Any]]:
    """For each kind, what each micro-step of a step and then its end sent: [collective, bytes] in order."""
    paths = {}
    for name, settings in KINDS.items():
        path = config.parent / f"{name}.json"
        path.write_text(json.dumps(settings))
        output = config.parent / name
        loaded = load_config(PretrainConfig, config, [*SETTINGS, f"output={output}", f"deepspeed={path}"])
        write_bytes(output / "config.yaml", dump_config(loaded).encode())
        paths[str(output / "config.yaml")] = name
    printed = run_ranks(WORLD_SIZE, ["-m", "tests.integration.count_wire", *paths])
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"config"')]
    return {paths[line["config"]]: line for line in lines}


def large(calls: list[tuple[str, int]]) -> Sent:
    """Bytes of each collective, without what is a few numbers."""
    found: Counter[str] = Counter()
    for name, size in calls:
        if size >= NUMBERS:
            found[name] += size
    return dict(found)


def test_what_each_stage_sends(pretrain_yaml: Path, tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "uneven", vocab_size=63)
    pretrain_yaml.write_text(pretrain_yaml.read_text().replace(str(tmp_path / "corpus"), str(corpus)))
    model = initial_model(load_config(PretrainConfig, pretrain_yaml, SETTINGS), Corpus(corpus))
    sizes = [(p.ndim >= 2, p.numel()) for p in model.parameters()]
    groups = [sum(numel for matrix, numel in sizes if matrix is kind) for kind in (True, False)]
    whole = sum(groups)
    aligned = sum(-(-group // (2 * WORLD_SIZE)) * 2 * WORLD_SIZE for group in groups)  # stages 1 and 2: by group
    padded = sum(-(-numel // WORLD_SIZE) * WORLD_SIZE for _, numel in sizes)  # stage 3: by parameter
    reduced, gathered, scattered = "all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor"
    nothing: Sent = {}
    expected: dict[str, tuple[Sent, Sent, Sent]] = {  # a micro-step, the last micro-step, the update
        "zero0": (nothing, {reduced: 4 * whole}, nothing),
        "zero1": (nothing, {reduced: 4 * whole}, {gathered: 4 * aligned}),
        "zero2": ({reduced: 4 * whole}, {reduced: 4 * whole}, {gathered: 4 * aligned}),
        "zero1-bf16": (nothing, {reduced: 4 * aligned}, {gathered: 2 * aligned}),
        "zero2-bf16": ({reduced: 4 * whole}, {reduced: 4 * whole}, {gathered: 2 * aligned}),
        "zero3": (both := {gathered: 4 * padded, scattered: 4 * padded}, both, nothing),
        "zero3-bf16": (half := {gathered: 2 * padded, scattered: 4 * padded}, half, nothing),
    }
    found = counted(pretrain_yaml)
    for name, (micro_step, last, update) in expected.items():
        *micro_steps, ending = found[name]["micro_steps"]
        assert len(micro_steps) == ACCUMULATED - 1
        assert [large(calls) for calls in micro_steps] == [micro_step] * (ACCUMULATED - 1), name
        assert large(ending) == last, name
        assert large(found[name]["step"]) == update, name
    for name in ("zero0", "zero1", "zero1-bf16"):
        assert found[name]["micro_steps"][1] == []  # not even a number
    persistent = found["zero3-persistent"]
    assert [large(calls) for calls in persistent["micro_steps"]] == [{scattered: 4 * padded}] * ACCUMULATED
    assert sum(size for name, size in persistent["step"] if name == gathered) == 4 * padded
    for calls in found["zero3-released"]["micro_steps"]:  # gathered for the forward and again for the backward pass
        assert 4 * padded < large(calls)[gathered] <= 8 * padded
