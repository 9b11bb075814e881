"""The card of an exported model: what it is, what it was trained on and how, how to use it."""

from typing import Any

from pipeline.corpus.shards import Corpus
from pipeline.encoder.hugging_face import family_of
from pipeline.engine.deepspeed_json import precision_of
from pipeline.pretrain_config import PretrainConfig

KINDS = {"roberta": "RoBERTa", "bert": "BERT"}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "not stated"


def _sources(corpus: Corpus) -> str:
    """The corpus's sources as rows; a corpus that another program wrote may name none."""
    counts = corpus.manifest.get("counts", {}).get("sources", {})
    return "\n".join(
        f"| {source['name']} | {counts[source['name']]['tokens']:,} | {_cell(source['license'])} "
        f"| {_cell(source['attribution'])} |"
        for source in corpus.manifest.get("config", {}).get("sources", [])
    )


def _training(config: PretrainConfig, corpus: Corpus, manifest: dict[str, Any]) -> str:
    model, batch, optimizer, schedule = config.model, config.batch, config.optimizer, config.schedule
    start = f"a model whose weights have SHA-256 `{model.init_from.sha256}`" if model.init_from else "random"
    rows = {
        "model": f"{model}; {corpus.vocab_size:,} words",
        "weights at the start": start,
        "steps": f"{manifest['step']:,} of {schedule.total_steps:,} that were planned",
        "a step": f"{batch.train_batch_size:,} sequences of {batch.sequence_length:,} tokens, packed "
        f"{corpus.manifest['packing']}; documents {batch.documents}",
        "in all": f"{manifest['consumed_samples']:,} sequences, {manifest['consumed_tokens']:,} tokens with padding",
        "objective": f"masked language modelling, {config.masking.mlm_probability:.0%} of tokens predicted",
        "optimizer": f"{optimizer.type}, learning rate {optimizer.learning_rate:g} after {schedule.warmup_steps:,} "
        f"steps of warm-up, then linear to zero; weight decay {optimizer.weight_decay:g}",
        "precision": precision_of(manifest["deepspeed"]),
        "seed": str(config.seed),
        "corpus digest": f"`{corpus.digest}`",
    }
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def model_card(config: PretrainConfig, corpus: Corpus, manifest: dict[str, Any]) -> str:
    """A Hugging Face model card.

    Args:
        manifest: of the checkpoint that is exported.
    """
    model = config.model
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [{family_of(model).model_type}, masked-lm, kilobatch]
---

# A {KINDS[model.architecture]} encoder

Pretrained with Kilobatch. `provenance.json` has all settings, versions and the SHA-256 of every file.

## How to use it

    from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForMaskedLM.from_pretrained(FOLDER)
    encoder = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False)  # there is no pooler: none was trained
    fill = pipeline("fill-mask", model=FOLDER)

A sequence has {model.max_position_embeddings - model.first_position:,} tokens at most, special ones included; positions
behind {config.batch.sequence_length:,} were not trained.

## How it was trained

| | |
| --- | --- |
{_training(config, corpus, manifest)}

## What it was trained on

| source | tokens | licence | attribution |
| --- | --- | --- | --- |
{_sources(corpus)}

The corpus's dataset card says how they were cleaned and filtered. What a model has learned from such text,
its errors and prejudices included, has not been examined.
"""
