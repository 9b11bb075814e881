"""A run's newest sound checkpoint → a Hugging Face model folder, proved equal to the training model before it appears.

MODEL/config.json  model.safetensors  tokenizer.json  tokenizer_config.json  spm.model  README.md  provenance.json
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed comes with accelerate, and would warn

from rich.console import Console
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer, RobertaConfig, RobertaForMaskedLM, pipeline
from transformers.utils import logging as transformers_logging

from pipeline import checkpoint
from pipeline.configfile import load_config
from pipeline.errors import InputError, RunError
from pipeline.evaluate import HeldOut
from pipeline.files import describe_files, publish_folder, read_json, verify_file, work_folder, write_json
from pipeline.model import FIRST_POSITION, MaskedLM
from pipeline.model_config import ModelConfig
from pipeline.pretrain_config import PretrainConfig
from pipeline.progress import progress_bar
from pipeline.run_folder import RunFolder, check_provenance, identity, versions
from pipeline.shards import Corpus, Split

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spm.model")
COMPARED = 64  # held-out samples
TOLERANCE = 1e-5  # largest difference of a logit, fp32, between the training model and the loaded export


def to_hugging_face(model: MaskedLM, pad_id: int) -> dict[str, Tensor]:
    """The weights under the names of `RobertaForMaskedLM`, which counts positions from behind the id of padding."""
    ours = model.state_dict()
    positions = ours["embeddings.position.weight"]
    theirs = {
        "roberta.embeddings.word_embeddings.weight": ours["embeddings.word.weight"],
        "roberta.embeddings.position_embeddings.weight": torch.cat(
            [torch.zeros(pad_id + 1, positions.shape[1]), positions[FIRST_POSITION:]]
        ),
        "roberta.embeddings.token_type_embeddings.weight": torch.zeros(1, positions.shape[1]),
        "lm_head.bias": ours["head.bias"],
    }
    _copy(ours, "embeddings.norm", theirs, "roberta.embeddings.LayerNorm")
    _copy(ours, "head.dense", theirs, "lm_head.dense")
    _copy(ours, "head.norm", theirs, "lm_head.layer_norm")
    for i in range(len(model.layers)):
        mine, layer = f"layers.{i}", f"roberta.encoder.layer.{i}"
        for kind in ("weight", "bias"):
            query, key, value = ours[f"{mine}.attention.qkv.{kind}"].chunk(3)
            theirs[f"{layer}.attention.self.query.{kind}"] = query
            theirs[f"{layer}.attention.self.key.{kind}"] = key
            theirs[f"{layer}.attention.self.value.{kind}"] = value
        _copy(ours, f"{mine}.attention.output", theirs, f"{layer}.attention.output.dense")
        _copy(ours, f"{mine}.attention_norm", theirs, f"{layer}.attention.output.LayerNorm")
        _copy(ours, f"{mine}.up", theirs, f"{layer}.intermediate.dense")
        _copy(ours, f"{mine}.down", theirs, f"{layer}.output.dense")
        _copy(ours, f"{mine}.mlp_norm", theirs, f"{layer}.output.LayerNorm")
    return theirs


def _copy(ours: dict[str, Tensor], mine: str, theirs: dict[str, Tensor], their: str) -> None:
    for kind in ("weight", "bias"):
        theirs[f"{their}.{kind}"] = ours[f"{mine}.{kind}"]


def hugging_face_config(config: ModelConfig, vocab_size: int, ids: dict[str, int]) -> RobertaConfig:
    geometry = config.model_dump(exclude={"position_init", "output_bias_init"})
    geometry["max_position_embeddings"] += ids["pad"] + 1 - FIRST_POSITION
    return RobertaConfig(
        vocab_size=vocab_size,
        bos_token_id=ids["bos"],
        pad_token_id=ids["pad"],
        eos_token_id=ids["eos"],
        type_vocab_size=1,
        hidden_act="gelu",
        tie_word_embeddings=True,
        architectures=["RobertaForMaskedLM"],
        dtype="float32",
        **geometry,
    )


@torch.no_grad()
def largest_difference(model: MaskedLM, exported: torch.nn.Module, split: Split, sample: int) -> float:
    """The largest difference of any logit at any token of a sample."""
    ids_BT = torch.from_numpy(split.read(np.array([sample]))).long()
    mask_BT = ids_BT != split.corpus.special_ids["pad"]
    tokens_N = mask_BT.flatten().nonzero().squeeze(1)
    ours_NV = model.eval()(ids_BT, mask_BT, tokens_N)
    theirs_NV = exported.eval()(input_ids=ids_BT, attention_mask=mask_BT.long()).logits.flatten(0, 1)[tokens_N]
    return float((ours_NV - theirs_NV).abs().max())


def export(run_path: Path, output: Path, corpus_path: Path | None = None) -> Path:
    """Write MODEL from RUN's newest sound checkpoint, load it again as a user would, and compare.

    Args:
        corpus_path: where the corpus lies now, if not where the run's configuration says.

    Raises:
        InputError: no run, no checkpoint, `output` exists. DigestError: no checkpoint is sound.
        RunError: its weights or logits are not finite numbers.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    console = Console(highlight=False)
    run = RunFolder(run_path)
    config = load_config(PretrainConfig, run.config)
    corpus = Corpus(corpus_path or config.corpus)
    corpus.verify()
    manifest, broken = run.newest_sound()
    for error in broken:
        console.print(f"passed over: {error}", markup=False, soft_wrap=True)
    if manifest is None:
        raise broken[0] if broken else InputError(f"{run.checkpoints}: no checkpoints to export")
    folder = run.checkpoint(manifest["step"])
    check_provenance(manifest, identity(config, corpus), folder)
    if output.exists():
        if _is_export_of(output, manifest):
            console.print(f"{output}: already the export of {folder}", markup=False, soft_wrap=True)
            return output
        raise InputError(f"{output}: exists already; remove it or choose another name")
    model = MaskedLM(config.model, corpus.vocab_size)
    checkpoint.load_weights(folder, manifest, model)
    held_out = HeldOut(corpus, config.batch.sequence_length, config.evaluation)
    samples = held_out.order[np.arange(min(COMPARED, held_out.samples))]
    with work_folder(output) as work, progress_bar("export: comparing logits", len(samples)) as advance:
        temporary = work / "model"
        _write(temporary, model, config, corpus, manifest)
        loaded = AutoModelForMaskedLM.from_pretrained(temporary, local_files_only=True, trust_remote_code=False)
        differences = []
        for sample in samples:  # one at a time: all logits are large
            differences.append(largest_difference(model, loaded, held_out.split, sample))
            advance()
        difference = float(np.max(differences))  # NaN if one is, unlike `max`
        if np.isnan(difference):
            raise RunError(f"{folder}: its logits are not finite numbers: the run diverged")
        assert difference <= TOLERANCE, f"the exported logits differ by {difference}"
        publish_folder(temporary, output)
    console.print(f"{output}: {folder} exported; logits equal within {difference:.1e}", markup=False, soft_wrap=True)
    _show_example(output, held_out, console)
    return output


def _is_export_of(output: Path, manifest: dict[str, Any]) -> bool:
    """Whether a folder is this checkpoint's export.

    Raises:
        DigestError: it is, and a file of it was altered since.
    """
    if not (output / "provenance.json").is_file():
        return False
    provenance = read_json(output / "provenance.json")
    if provenance.get("checkpoint_digest") != manifest["digest"]:
        return False
    for name, entry in provenance["files"].items():
        verify_file(output, name, entry)
    return True


def _write(folder: Path, model: MaskedLM, config: PretrainConfig, corpus: Corpus, manifest: dict[str, Any]) -> None:
    exported = RobertaForMaskedLM(hugging_face_config(config.model, corpus.vocab_size, corpus.special_ids))
    missing = exported.load_state_dict(to_hugging_face(model, corpus.special_ids["pad"]), strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {
        "lm_head.decoder.weight",
        "lm_head.decoder.bias",
    }
    exported.tie_weights()
    exported.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if entry := corpus.manifest["files"].get(f"tokenizer/{name}"):
            shutil.copyfile(verify_file(corpus.folder, f"tokenizer/{name}", entry), folder / name)
    (folder / "README.md").write_text(model_card(config, corpus, manifest), encoding="utf-8")
    write_json(folder / "provenance.json", {
        "files": describe_files(folder, [path.name for path in folder.iterdir()]),
        "checkpoint_digest": manifest["digest"],
        "corpus_digest": corpus.digest,
        "tokenizer": {"fingerprint": corpus.tokenizer_fingerprint},
        "step": manifest["step"],
        "consumed_samples": manifest["consumed_samples"],
        "consumed_tokens": manifest["consumed_tokens"],
        "recipe": manifest["recipe"],
        "config": manifest["config"],
        "deepspeed": manifest["deepspeed"],
        "trained_with": manifest["versions"],
        "exported_with": versions(),
    })  # fmt: skip


def model_card(config: PretrainConfig, corpus: Corpus, manifest: dict[str, Any]) -> str:
    """A Hugging Face model card: what it is, what it was trained on, how to load it."""
    m = config.model
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [roberta, masked-lm, kilobatch]
---

A RoBERTa encoder ({m.num_hidden_layers} layers, hidden size {m.hidden_size}, {m.num_attention_heads} heads,
vocabulary {corpus.vocab_size}), pretrained with Kilobatch: {manifest["step"]} steps of
{config.batch.train_batch_size} sequences of {config.batch.sequence_length} tokens
({manifest["consumed_tokens"]:,} tokens), masking {config.masking.mlm_probability:.0%}.

    from transformers import AutoModelForMaskedLM, AutoTokenizer
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)

Sequences may have up to {m.max_position_embeddings - 2} tokens; positions behind {config.batch.sequence_length}
were not trained. Corpus digest `{corpus.digest}`; its
dataset card names the sources and their licences. `provenance.json` has the rest.
"""


def _show_example(output: Path, held_out: HeldOut, console: Console) -> None:
    """Fill one masked word of a held-out sentence, as a user would."""
    tokenizer = AutoTokenizer.from_pretrained(output, local_files_only=True, trust_remote_code=False)
    fill = pipeline("fill-mask", model=str(output), tokenizer=tokenizer, device=-1, trust_remote_code=False)
    ids = held_out.split.read(held_out.order[np.arange(1)])[0]
    words = str(tokenizer.decode(ids, skip_special_tokens=True)).split()[:24]
    place = len(words) // 2
    hidden, words[place] = words[place], tokenizer.mask_token
    guesses = fill(" ".join(words), top_k=5)
    said = ", ".join(f"{guess['token_str'].strip()} ({guess['score']:.0%})" for guess in guesses)
    console.print(f"fill-mask: {' '.join(words)}", markup=False, soft_wrap=True)
    console.print(f"  it was {hidden!r}; the model says {said}", markup=False, soft_wrap=True)
