"""What a run will be, before it is one: the arithmetic of the batch and the schedule, printed and asserted."""

from rich.console import Console
from rich.table import Table

from pipeline.checkpoints.run_folder import RunFolder
from pipeline.corpus.shards import SENTENCES, Corpus
from pipeline.encoder.model_folder import ModelFolder, check_start
from pipeline.engine.deepspeed_json import described, precision_of, read_deepspeed_json
from pipeline.errors import InputError
from pipeline.files import MANIFEST, check_writable
from pipeline.pretrain_config import PretrainConfig
from pipeline.samples.batch import BatchGeometry
from pipeline.samples.order import Order


def parameters(config: PretrainConfig, vocab_size: int) -> int:
    """Parameters of the model, the tied word embeddings once."""
    model, width = config.model, config.model.hidden_size
    norm = 2 * width
    attention = 4 * (width * width + width)
    mlp = 2 * width * model.intermediate_size + model.intermediate_size + width
    token_types = 2 if model.architecture == "bert" else 0
    embeddings = (vocab_size + model.max_position_embeddings + token_types) * width + norm * model.embedding_norm
    last = norm if model.layer_norm == "pre" else 0
    head = width * width + width + norm + vocab_size
    return embeddings + model.num_hidden_layers * (attention + mlp + 2 * norm) + last + head


def geometry_of(config: PretrainConfig, world_size: int) -> BatchGeometry:
    return BatchGeometry(config.batch.train_batch_size, config.batch.train_micro_batch_size_per_gpu, world_size)


def check(config: PretrainConfig, world_size: int) -> tuple[Corpus, BatchGeometry]:
    """Everything about a run that can be wrong before a process is started.

    Raises:
        InputError: one line. DigestError: a corpus file is not what its manifest says.
    """
    read_deepspeed_json(config.deepspeed)
    check_writable(config.output)
    if (config.output / MANIFEST).exists():
        raise InputError(f"output: {config.output} is a finished folder of something else; give another")
    geometry = geometry_of(config, world_size)
    corpus = Corpus(config.corpus)
    corpus.check_packed(config.batch.sequence_length, SENTENCES)
    corpus.verify()
    corpus.split("valid", config.batch.sequence_length)
    if not RunFolder(config.output).steps():  # else the run goes on from a checkpoint
        check_start(config.model, corpus)
    if config.stop_at_step is not None and config.stop_at_step > config.schedule.total_steps:
        raise InputError(
            f"stop_at_step: {config.stop_at_step} is behind schedule.total_steps {config.schedule.total_steps}"
        )
    return corpus, geometry


def check_precision(config: PretrainConfig, device: str) -> None:
    """That a CPU can what the DeepSpeed JSON asks for; a GPU's ranks say it, since asking would take of its memory.

    Raises:
        InputError: fp16, and this machine's CPU has none.
    """
    settings = read_deepspeed_json(config.deepspeed)
    if device == "CPU" and precision_of(settings) == "fp16":  # else the seconds of importing DeepSpeed are saved
        from pipeline.engine.engine import check_precision as of_rank

        of_rank(config.deepspeed, settings)


def _begin(config: PretrainConfig) -> str:
    """Where the weights of the next step come from."""
    if done := RunFolder(config.output).steps():
        return f"of the checkpoint of step {done[-1]:,}, if it is sound"
    return f"of {ModelFolder(config.model.init_from.folder)}" if config.model.init_from else "random"


def show(config: PretrainConfig, world_size: int, device: str) -> None:
    """Print the plan of a run (`--dry-run`)."""
    corpus, geometry = Corpus(config.corpus), geometry_of(config, world_size)
    train = corpus.split("train", config.batch.sequence_length)
    samples = config.schedule.total_steps * geometry.train_batch_size
    assert geometry.micro_batch_size * geometry.gradient_accumulation_steps * world_size == geometry.train_batch_size
    first = Order(len(train), config.seed, corpus.digest)[geometry.sample_indices(0)]
    table = Table(show_header=False, box=None)
    rows = {
        "corpus": f"{config.corpus} ({corpus.digest[:12]}…)",
        "samples": f"{len(train):,} of {config.batch.sequence_length} tokens",
        "model": str(config.model),
        "weights": _begin(config),
        "parameters": f"{parameters(config, corpus.vocab_size):,}, vocabulary {corpus.vocab_size:,}",
        "optimizer": f"{config.optimizer.type}, learning rate {config.optimizer.learning_rate:g} at the peak",
        "batch": str(geometry),
        "tokens a step": f"{geometry.train_batch_size * config.batch.sequence_length:,}",
        "steps": f"{config.schedule.total_steps:,}, of them {config.schedule.warmup_steps:,} warm-up",
        "epochs": f"{samples / len(train):.2f} ({samples:,} samples)",
        "processes": f"{world_size} on {device}, {described(read_deepspeed_json(config.deepspeed))}",
        "first micro-batch": " ".join(map(str, first.tolist())),
        "run folder": f"{config.output}, {len(RunFolder(config.output).steps())} checkpoint(s)",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False).print(table)
