"""What a run logs of held-out samples, and what `kilobatch evaluate` says of its checkpoint, are one number."""

import json
from pathlib import Path

from pipeline.evaluate_saved import evaluate
from tests.ranks import pretrain


def test_weights_in_parts_and_in_bf16_score_what_the_checkpoint_scores(
    pretrain_yaml: Path, corpus: Path, tmp_path: Path
) -> None:
    """Three micro-batches on two ranks, which must make as many passes at ZeRO stage 3: each gathers weights."""
    (tmp_path / "zero3.json").write_text(json.dumps({"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}}))
    evaluation = [f"evaluation.{key}" for key in ("samples=10", "micro_batch_size=4", "pseudo_perplexity_samples=1")]
    settings = [f"deepspeed={tmp_path / 'zero3.json'}", "schedule.total_steps=1", *evaluation]
    pretrain(pretrain_yaml, 2, settings)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = (line for line in lines if line["event"] == "eval")
    _, scores = evaluate(tmp_path / "run", corpus)
    assert (scores.loss, scores.pseudo_perplexity) == (last["loss"], last["pseudo_perplexity"])
    assert first["loss"] != last["loss"]
