"""`kilobatch evaluate`: what a run's newest sound checkpoint, or an exported model, scores on held-out samples.

A run gives the number that it logged at that step, to the last digit, on the device and threads it was trained with; an
export the same within rounding. Either is compared with its own corpus and tokenizer alone (law 5).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed comes with accelerate, and would warn

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.checkpoints import checkpoint
from pipeline.checkpoints.run_folder import RunFolder, check_provenance, identity, none_sound
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.encoder.model import MaskedLM
from pipeline.engine.deepspeed_json import precision_of
from pipeline.errors import InputError
from pipeline.evaluate import HeldOut, Scores
from pipeline.pretrain_config import Documents, EvaluationConfig, PretrainConfig
from pipeline.provenance import PROVENANCE, read_provenance, verify_provenance
from pipeline.samples.sequences import Sequences

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PSEUDO_SAMPLES = 16  # where a run's configuration asks for none


class Exported(nn.Module):
    """A model of `transformers`, called as ours is: logits of predicted positions alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.positions_N: Tensor | None = None
        projection = model.get_output_embeddings()
        assert isinstance(projection, nn.Module)
        projection.register_forward_pre_hook(self._select)

    def _select(self, module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        assert self.positions_N is not None
        return inputs[0].flatten(0, 1)[self.positions_N]

    def forward(
        self, input_ids_BT: Tensor, sequences: Sequences | None, positions_N: Tensor, labels_N: Tensor, _: str
    ) -> Tensor:
        """The loss of each predicted token, (N,), in nats; a sequence is a row to them, filled up behind its end."""
        mask_CL, ids_CL, self.positions_N = None, input_ids_BT, positions_N
        if sequences is not None:
            ids_S, predicted_N = sequences.pack(input_ids_BT, positions_N)
            cells_S, shape = sequences.cells(), (len(sequences.lengths), sequences.longest)
            ids_CL = ids_S.new_zeros(shape[0] * shape[1]).index_copy(0, cells_S, ids_S).view(shape)
            mask_CL = ids_CL.new_zeros(ids_CL.numel()).index_fill(0, cells_S, 1).view(shape)
            self.positions_N = cells_S[predicted_N]
        logits_NV = self.model(input_ids=ids_CL.long(), attention_mask=mask_CL).logits
        return nn.functional.cross_entropy(logits_NV.float(), labels_N, reduction="none")


@dataclass(frozen=True)
class Saved:
    """A model that can be scored, and what it was trained with."""

    name: str
    model: nn.Module
    sequence_length: int
    documents: Documents
    evaluation: EvaluationConfig


def evaluate(path: Path, corpus_path: Path, samples: int = 0, pseudo_samples: int = 0) -> tuple[str, Scores]:
    """Score RUN or MODEL on CORPUS; what was scored, and its scores.

    Args:
        samples, pseudo_samples: instead of `evaluation.samples` and `evaluation.pseudo_perplexity_samples` of the run.

    Raises:
        InputError: `path` is neither, or of another corpus or tokenizer. DigestError: a file was altered.
    """
    is_model, run = (path / PROVENANCE).is_file(), RunFolder(path)
    if not is_model and not run.config.is_file():
        raise InputError(f"{path}: expected a run (config.yaml) or a model that was exported from one ({PROVENANCE})")
    corpus = Corpus(corpus_path)
    saved = _of_model(path, corpus) if is_model else _of_run(run, corpus)
    corpus.verify()  # last, since it takes longest
    asked = {
        "samples": samples or saved.evaluation.samples,
        "pseudo_perplexity_samples": pseudo_samples or saved.evaluation.pseudo_perplexity_samples or PSEUDO_SAMPLES,
    }
    held_out = HeldOut(corpus, saved.sequence_length, saved.evaluation.model_copy(update=asked), saved.documents)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return saved.name, held_out.scores(saved.model.to(device), device)


def _of_run(run: RunFolder, corpus: Corpus) -> Saved:
    config = load_config(PretrainConfig, run.config)
    manifest, broken = run.newest_sound()
    if manifest is None:
        raise none_sound(broken) if broken else InputError(f"{run.checkpoints}: no checkpoints to evaluate")
    folder = run.checkpoint(manifest["step"])
    check_provenance(manifest, identity(config, corpus), folder)
    model = MaskedLM(config.model, corpus.vocab_size)
    checkpoint.load_weights(folder, manifest, model)
    model = model.to(DTYPES[precision_of(manifest["deepspeed"])])
    batch = config.batch
    return Saved(str(folder), model, batch.sequence_length, batch.documents, config.evaluation)


def _of_model(folder: Path, corpus: Corpus) -> Saved:
    provenance = read_provenance(folder)
    assert provenance is not None
    try:
        tokenizer = provenance["tokenizer"]["fingerprint"]
        length = int(provenance["config"]["batch"]["sequence_length"])
        documents: Documents = TypeAdapter(Documents).validate_python(provenance["config"]["batch"]["documents"])
        evaluation = TypeAdapter(EvaluationConfig).validate_python(provenance["config"]["evaluation"])
        theirs = {"corpus_digest": provenance["corpus_digest"], "tokenizer_fingerprint": tokenizer}
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(f"{folder / PROVENANCE}: not that of an export: {' '.join(str(error).split())}") from None
    ours = {"corpus_digest": corpus.digest, "tokenizer_fingerprint": corpus.tokenizer_fingerprint}
    check_provenance({**theirs, "recipe": {}}, {**ours, "recipe": {}}, folder)
    verify_provenance(folder)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    loaded = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    assert isinstance(loaded, PreTrainedModel)
    return Saved(str(folder), Exported(loaded.float()), length, documents, evaluation)
