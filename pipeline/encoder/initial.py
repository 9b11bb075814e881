"""How a run's weights begin: random, a function of its seed; or those of a Hugging Face model."""

import torch
from safetensors import safe_open

from pipeline.corpus.shards import Corpus
from pipeline.encoder.hugging_face import token_type_name
from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.encoder.model_folder import open_start
from pipeline.errors import InputError
from pipeline.keyed import derive
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.data import log_frequencies


def initial_model(config: PretrainConfig, corpus: Corpus) -> MaskedLM:
    """A run's model as it is before the first step, without the weights of `init_from`; on the CPU, fp32."""
    seed, pad_id = derive("weights", config.seed) % 2**63, corpus.special_ids["pad"]
    model = MaskedLM(config.model, corpus.vocab_size, seed, pad_id)
    if config.model.output_bias_init == "unigram":
        model.head.bias.data.copy_(log_frequencies(corpus))
    return model


@torch.no_grad()
def load_start(model: MaskedLM, config: ModelConfig) -> str:
    """Set the weights of the folder that `init_from` names; what was done, as a line for a person.

    A RoBERTa's one token type, which stands at every token and is no parameter of ours, is added to the positions.

    Raises:
        InputError: the folder is not fit. DigestError: its weights are others than when the run was configured.
    """
    assert config.init_from is not None
    folder = open_start(config.init_from)
    files = {name: safe_open(folder.path / name, framework="pt") for name in folder.weight_files}
    parameters = dict(model.named_parameters())
    for rows, stored in folder.placed(config):
        theirs = files[stored.file].get_tensor(stored.name).float()
        if not theirs.isfinite().all():
            raise InputError(f"{folder.path / stored.file}: {stored.name} holds values that are not finite numbers")
        ours = parameters[rows.ours][rows.ours_first : rows.ours_first + rows.count]
        ours.copy_(theirs[rows.theirs_first : rows.theirs_first + rows.count])
    token_type = folder.find(token_type_name(config))
    if config.architecture == "roberta" and token_type is not None:
        model.embeddings.position.weight += files[token_type.file].get_tensor(token_type.name)[0].float()
    return f"begins with the weights of {folder}"
