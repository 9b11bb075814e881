"""A folder of a Hugging Face model to start from: what it is and what its files hold, without torch or pickle.

FOLDER/config.json  model.safetensors                                  or, in several files,
       config.json  model.safetensors.index.json  model-00001-of-00002.safetensors …
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from pipeline.configfile import Dropout, Positive
from pipeline.corpus.shards import Corpus
from pipeline.encoder.hugging_face import FAMILIES, Rows, positions_before, table
from pipeline.encoder.model_config import FIRST_POSITION, ModelConfig, StartConfig, named
from pipeline.encoder.vocabulary import check_same_vocabulary, vocabulary_file
from pipeline.errors import DigestError, InputError, nearest
from pipeline.files import digest_of, file_sha256, read_json
from pipeline.provenance import verify_provenance

SETTINGS = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# RoBERTa under other names, for other tokenizers
ALIKE = {"camembert": ("roberta", "post"), "xlm-roberta": ("roberta", "post")}
READABLE = {"F64", "F32", "F16", "BF16"}
FREE = {"hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"}  # of a run, not of the function


class _Settings(BaseModel):
    """What is read of a config.json; what is left out has the defaults of `transformers`."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, protected_namespaces=())

    model_type: str
    vocab_size: Positive
    num_hidden_layers: Positive
    hidden_size: Positive
    num_attention_heads: Positive
    intermediate_size: Positive
    max_position_embeddings: Positive
    hidden_dropout_prob: Dropout = 0.1
    attention_probs_dropout_prob: Dropout = 0.1
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    initializer_range: Annotated[float, Field(ge=0)] = 0.02
    type_vocab_size: Positive = 2
    pad_token_id: int | None = None
    # of these only one value is the function that is trained here
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    tie_word_embeddings: Literal[True] = True
    is_decoder: Literal[False] = False


@dataclass(frozen=True)
class Stored:
    """A tensor of a safetensors file, as its header has it."""

    file: str
    name: str
    shape: tuple[int, ...]
    dtype: str


class ModelFolder:
    """A Hugging Face model's folder.

    Raises:
        InputError: one line: no such folder, not one of the models that are trained here, or its weights are pickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; expected a Hugging Face model: {SETTINGS} and {WEIGHTS}")
        self.settings = self._read_settings()
        families = {family.model_type: key for key, family in FAMILIES.items()} | ALIKE
        if (found := self.settings.model_type) not in families:
            raise InputError(f"{path / SETTINGS}: model_type: found {found!r}{nearest(found, families)}")
        self.architecture, self.layer_norm = families[found]
        self.prefix = FAMILIES[self.architecture, self.layer_norm].prefix
        default_pad = 1 if self.architecture == "roberta" else 0
        self.pad_id = default_pad if self.settings.pad_token_id is None else self.settings.pad_token_id
        self.weight_files = self._find_weights()

    def _read_settings(self) -> _Settings:
        path = self.path / SETTINGS
        values = read_json(path)
        try:
            return _Settings.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            if first["type"] == "missing":
                raise InputError(f"{path}: key {key!r} is missing") from None
            expected = first["msg"].removeprefix("Input should be ")
            raise InputError(f"{path}: {key}: found {values[key]!r}; expected {expected}") from None

    def _find_weights(self) -> list[str]:
        if (self.path / WEIGHTS).is_file():
            return [WEIGHTS]
        if (self.path / INDEX).is_file():
            files = read_json(self.path / INDEX).get("weight_map")
            if not isinstance(files, dict) or not files:
                raise InputError(f"{self.path / INDEX}: no weight_map")
            names = sorted({str(name) for name in files.values()})
            for name in names:  # a link is followed: the Hub's cache consists of them
                if PurePosixPath(name).name != name or not (self.path / name).is_file():
                    raise InputError(f"{self.path / INDEX}: names a file {name!r} that is not in the folder")
            return names
        if pickled := sorted(path.name for path in self.path.glob("*.bin")):
            raise InputError(
                f"{self.path}: its weights are pickled ({pickled[0]}), and unpickling runs what a file says; expected"
                f" {WEIGHTS}, as transformers' save_pretrained writes it"
            )
        raise InputError(f"{self.path}: no weights; expected {WEIGHTS} or {INDEX}")

    def digest(self) -> str:
        """SHA-256 of the names and SHA-256 of the files that hold the weights."""
        return digest_of({name: file_sha256(self.path / name) for name in self.weight_files})

    def geometry(self) -> dict[str, Any]:
        """The fields of `ModelConfig` that config.json decides, with positions counted as ours are.

        Raises:
            InputError: its embeddings are not those of a model that is trained here.
        """
        path, settings = self.path / SETTINGS, self.settings
        positions = settings.max_position_embeddings - positions_before(self.architecture, self.pad_id)
        if positions <= FIRST_POSITION[self.architecture]:
            found = settings.max_position_embeddings
            raise InputError(f"{path}: max_position_embeddings: found {found}, which leave none to tokens")
        if self.architecture == "bert" and settings.type_vocab_size != 2:
            raise InputError(f"{path}: type_vocab_size: found {settings.type_vocab_size}; accepted: 2")
        alike = settings.model_dump(include=set(ModelConfig.model_fields))
        kind = {"architecture": self.architecture, "layer_norm": self.layer_norm}
        return {**alike, **kind, "max_position_embeddings": positions}

    @cached_property
    def tensors(self) -> dict[str, Stored]:
        """All of its tensors by name, as the headers have them.

        Raises:
            InputError: a file is no safetensors file.
        """
        found = {}
        for file in self.weight_files:
            try:
                with safe_open(self.path / file, framework="numpy") as handle:
                    for name in sorted(handle.keys()):
                        piece = handle.get_slice(name)
                        found[name] = Stored(file, name, tuple(piece.get_shape()), piece.get_dtype())
            except SafetensorError as error:
                raise InputError(f"{self.path / file}: not a safetensors file: {error}") from None
        return found

    def find(self, name: str) -> Stored | None:
        """A tensor by its name in a masked-language model.

        A model without a head leaves the encoder's prefix out; the first BERTs call a norm's tensors gamma and beta.
        """
        for spelling in (name, name.removeprefix(self.prefix)):
            old = spelling.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            if stored := self.tensors.get(spelling) or self.tensors.get(old):
                return stored
        return None

    @property
    def has_head(self) -> bool:
        """Whether it predicts tokens; else only its encoder is of use, and a new head begins."""
        output_bias = FAMILIES[self.architecture, self.layer_norm].output_bias
        return self.find(output_bias) is not None

    def __str__(self) -> str:
        lacks = [] if self.has_head else ["no head: a new one begins"]
        if vocabulary_file(self.path) is None:
            lacks.append("no tokenizer: that its ids are the corpus's is taken for granted")
        return f"{self.path}, which has {'; '.join(lacks)}" if lacks else str(self.path)

    def placed(self, config: ModelConfig) -> list[tuple[Rows, Stored]]:
        """Every tensor of ours beside the one that it begins with: without the head's, if there is none.

        Raises:
            InputError: one is missing, or is of another shape or type.
        """
        found = []
        for rows in table(config, self.settings.vocab_size, self.pad_id):
            if rows.ours.startswith("head.") and not self.has_head:
                continue
            stored = self.find(rows.theirs)
            if stored is None:
                raise InputError(f"{self.path}: its weights lack {rows.theirs}")
            if stored.shape != rows.shape:
                shapes = f"found shape {list(stored.shape)}, expected {list(rows.shape)}"
                raise InputError(f"{self.path / stored.file}: {stored.name}: {shapes}")
            if stored.dtype not in READABLE:
                types = f"found {stored.dtype}; accepted: {', '.join(sorted(READABLE))}"
                raise InputError(f"{self.path / stored.file}: {stored.name}: {types}")
            found.append((rows, stored))
        return found


def resolve_start(given: dict[str, Any]) -> dict[str, Any]:
    """A model's fields with the path that `init_from` names resolved: the folder's geometry, its weights' digest.

    Raises:
        InputError: the folder is not fit, or a given field contradicts it; both sides are named.
    """
    if not isinstance(given.get("init_from"), str):
        return given  # nothing to start from, or resolved before
    given = named(given)
    folder = ModelFolder(Path(given["init_from"]))
    geometry = folder.geometry()
    for key in sorted(given.keys() & geometry.keys() - FREE):
        if given[key] != geometry[key]:
            raise InputError(f"{key}: found {given[key]!r}; {folder.path / SETTINGS} has {geometry[key]!r}")
    if given.get("output_bias_init") == "unigram" and folder.has_head:
        raise InputError(f"output_bias_init: unigram is for a fresh head; {folder.path} brings its own")
    return {**geometry, **given, "init_from": {"folder": str(folder.path), "sha256": folder.digest()}}


def open_start(start: StartConfig) -> ModelFolder:
    """The folder to start from.

    Raises:
        InputError: it is not fit. DigestError: its weights are others than when the run was configured.
    """
    folder = ModelFolder(start.folder)
    if (found := folder.digest()) != start.sha256:
        raise DigestError(f"{folder.path}: SHA-256 of its weights {found}, the run was configured with {start.sha256}")
    return folder


def check_start(config: ModelConfig, corpus: Corpus) -> None:
    """That a model can go on from the folder that it names on this corpus; nothing if it names none.

    Raises:
        InputError: another vocabulary, or tensors that are missing or of another shape.
        DigestError: its weights are others than when the run was configured, or not what an export of ours names.
    """
    if config.init_from is None:
        return
    folder = open_start(config.init_from)
    verify_provenance(folder.path)
    for name, theirs, ours in (
        ("vocab_size", folder.settings.vocab_size, corpus.vocab_size),
        ("pad_token_id", folder.pad_id, corpus.special_ids["pad"]),
    ):
        if theirs != ours:
            raise InputError(f"{folder.path / SETTINGS}: {name}: found {theirs}; the corpus {corpus.folder} has {ours}")
    check_same_vocabulary(folder.path, corpus)
    folder.placed(config)
