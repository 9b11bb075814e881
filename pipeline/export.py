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
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, pipeline
from transformers.utils import logging as transformers_logging

from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.run_folder import RunFolder, check_provenance, identity, none_sound, versions
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus, Split
from pipeline.encoder.hugging_face import family_of, table, their_config, token_type_name, token_types
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.errors import InputError, RunError
from pipeline.evaluate import HeldOut
from pipeline.files import describe_files, publish_folder, verify_file, work_folder, write_json
from pipeline.model_card import model_card
from pipeline.pretrain_config import PretrainConfig
from pipeline.progress import progress_bar
from pipeline.provenance import PROVENANCE, read_provenance, verify_provenance
from pipeline.samples.sequences import Sequences

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spm.model")
COMPARED = 64  # held-out samples
TOLERANCE = 1e-5  # largest difference of a logit, fp32, between the training model and the loaded export


def to_hugging_face(model: MaskedLM, config: ModelConfig, pad_id: int) -> dict[str, Tensor]:
    """The weights under the names and in the shapes of `transformers`; rows that no model uses are zero."""
    ours = model.state_dict()
    theirs = {token_type_name(config): torch.zeros(token_types(config), config.hidden_size)}
    for rows in table(config, len(model.head.bias), pad_id):
        tensor = theirs[rows.theirs] = torch.zeros(rows.shape)
        tensor[rows.theirs_first :].copy_(ours[rows.ours][rows.ours_first : rows.ours_first + rows.count])
    return theirs


def build(model: MaskedLM, config: ModelConfig, ids: dict[str, int]) -> PreTrainedModel:
    """The model of `transformers` that is the same function.

    Args:
        ids: of the special tokens `bos`, `pad` and `eos`.
    """
    their = AutoConfig.for_model(family_of(config).model_type, **their_config(config, len(model.head.bias), ids))
    exported = AutoModelForMaskedLM.from_config(their)
    assert isinstance(exported, PreTrainedModel)
    loaded = exported.load_state_dict(to_hugging_face(model, config, ids["pad"]), strict=False)
    assert not loaded.unexpected_keys
    assert all(".decoder." in name for name in loaded.missing_keys), "what is tied comes with the others"
    exported.tie_weights()
    return exported


@torch.no_grad()
def largest_difference(model: MaskedLM, exported: torch.nn.Module, split: Split, sample: int) -> float:
    """The largest difference of any logit at any token of a sample."""
    ids_BT = torch.from_numpy(split.read(np.array([sample]))).long()
    mask_BT = ids_BT != split.corpus.special_ids["pad"]
    tokens_N = mask_BT.flatten().nonzero().squeeze(1)
    ours_NV = model.eval()(ids_BT, Sequences.in_rows(mask_BT.numpy()), tokens_N)
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
    if not run.config.is_file():
        raise InputError(f"{run_path}: expected the folder of a run, which has {run.config.name}")
    config = load_config(PretrainConfig, run.config)
    if corpus_path is None and not config.corpus.exists():
        raise InputError(f"{config.corpus}: no such folder; if the run's corpus lies elsewhere, name it by --corpus")
    corpus = Corpus(corpus_path or config.corpus)
    corpus.verify()
    manifest, broken = run.newest_sound()
    for error in broken:
        console.print(f"passed over: {error}", markup=False, soft_wrap=True)
    if manifest is None:
        raise none_sound(broken) if broken else InputError(f"{run.checkpoints}: no checkpoints to export")
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
    provenance = read_provenance(output)
    if provenance is None or provenance.get("checkpoint_digest") != manifest["digest"]:
        return False
    verify_provenance(output)
    return True


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings but where things lay, which is nobody's business to whom the model is handed on."""
    kept = {key: value for key, value in settings.items() if key not in ("corpus", "output", "deepspeed")}
    start = kept["model"]["init_from"]
    return kept | {"model": kept["model"] | {"init_from": start and {"sha256": start["sha256"]}}}


def _write(folder: Path, model: MaskedLM, config: PretrainConfig, corpus: Corpus, manifest: dict[str, Any]) -> None:
    build(model, config.model, corpus.special_ids).save_pretrained(folder)
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # which safetensors makes for its owner alone
    for name in TOKENIZER_FILES:
        if entry := corpus.manifest["files"].get(f"tokenizer/{name}"):
            shutil.copyfile(verify_file(corpus.folder, f"tokenizer/{name}", entry), folder / name)
    (folder / "README.md").write_text(model_card(config, corpus, manifest), encoding="utf-8")
    write_json(folder / PROVENANCE, {
        "files": describe_files(folder, [path.name for path in folder.iterdir()]),
        "checkpoint_digest": manifest["digest"],
        "corpus_digest": corpus.digest,
        "tokenizer": {"fingerprint": corpus.tokenizer_fingerprint},
        "step": manifest["step"],
        "consumed_samples": manifest["consumed_samples"],
        "consumed_tokens": manifest["consumed_tokens"],
        "recipe": manifest["recipe"],
        "config": _without_paths(manifest["config"]),
        "deepspeed": manifest["deepspeed"],
        "trained_with": manifest["versions"],
        "exported_with": versions(),
    })  # fmt: skip


def _show_example(output: Path, held_out: HeldOut, console: Console) -> None:
    """Fill one masked word of a held-out sentence, as a user would."""
    tokenizer = AutoTokenizer.from_pretrained(output, local_files_only=True, trust_remote_code=False)
    fill = pipeline("fill-mask", model=str(output), tokenizer=tokenizer, device=-1, trust_remote_code=False)
    ids = held_out.split.read(held_out.order[np.arange(1)])[0]
    words = str(tokenizer.decode(ids, skip_special_tokens=True)).split()[:24]
    if not words:
        return  # a sample of nothing but special tokens
    place = len(words) // 2
    hidden, words[place] = words[place], tokenizer.mask_token
    guesses = fill(" ".join(words), top_k=5)
    said = ", ".join(f"{guess['token_str'].strip()} ({guess['score']:.0%})" for guess in guesses)
    console.print(f"fill-mask: {' '.join(words)}", markup=False, soft_wrap=True)
    console.print(f"  it was {hidden!r}; the model says {said}", markup=False, soft_wrap=True)
