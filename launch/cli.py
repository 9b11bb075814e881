"""The command line. A command imports what it runs when it runs: `--help` loads neither torch nor Beam."""

import os
import select
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from launch import checkpoint_commands
from launch.checkpoint_commands import Run, console
from pipeline.errors import InputError, UserError

INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="kilobatch",
    help="Large-batch pretraining of BERT- and RoBERTa-style encoders, from raw text to a fine-tuned model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Check a corpus and look into it.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.add_typer(checkpoint_commands.app, name="checkpoint")

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="a YAML file; docs/settings.md has every setting", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value …]", help="settings to change, such as seed=2", show_default=False),
]
CorpusFolder = Annotated[Path, typer.Argument(metavar="CORPUS", help="what `preprocess` wrote", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"kilobatch {version('kilobatch')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="say which")] = False,
) -> None:
    pass


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def preprocess(context: typer.Context, config: ConfigFile, overrides: Overrides = None) -> None:
    """Raw text to a corpus of token shards, with Apache Beam.

    What follows `--` is Beam's. An output that the same settings and inputs made is verified and kept.

    Example: kilobatch preprocess configs/corpus/demo.yaml seed=1 -- --direct_running_mode=multi_processing
    """
    from pipeline.configfile import load_config
    from preprocess import forks

    given = [*(overrides or []), *context.args]
    first = next((i for i, word in enumerate(given) if word.startswith("-")), len(given))  # the rest is Beam's
    if "--direct_running_mode=multi_processing" in given:
        forks.start()  # it imports Beam while this process does
    with forks.for_good():
        from pipeline.corpus.shards import Corpus
        from preprocess.config import CorpusConfig
        from preprocess.run import run

    made = run(load_config(CorpusConfig, config, given[:first]), given[first:])
    manifest = Corpus(made).manifest
    documents, tokens = (sum(split[key] for split in manifest["splits"].values()) for key in ("documents", "tokens"))
    print(f"{made}: {documents:,} documents, {tokens:,} tokens; corpus digest {manifest['corpus_digest']}")


@corpus_app.command("verify")
def corpus_verify(corpus: CorpusFolder) -> None:
    """Compare every file of a corpus with its digest.

    Example: kilobatch corpus verify demo/corpus
    """
    from pipeline.corpus.shards import Corpus
    from pipeline.progress import progress_bar

    opened = Corpus(corpus)
    with progress_bar("corpus verify", len(opened.manifest["files"])) as advance:
        opened.verify(advance)
    print(f"{corpus}: {len(opened.manifest['files'])} files as their digests say; corpus digest {opened.digest}")


@corpus_app.command("stats")
def corpus_stats(corpus: CorpusFolder) -> None:
    """Documents, tokens, samples and sources of a corpus, and what was refused: no shard is read.

    Example: kilobatch corpus stats demo/corpus
    """
    from pipeline.corpus.inspect_corpus import print_stats
    from pipeline.corpus.shards import Corpus

    print_stats(Corpus(corpus), console())


@corpus_app.command("show")
def corpus_show(
    corpus: CorpusFolder,
    sample: Annotated[int, typer.Argument(metavar="SAMPLE", help="its number in the split")] = 0,
    split: Annotated[str, typer.Option(help="train, valid or test")] = "train",
    length: Annotated[int, typer.Option(help="tokens a sample; 0: the corpus's shortest")] = 0,
) -> None:
    """One sample of a corpus: its documents' text, ids and pieces.

    Example: kilobatch corpus show demo/corpus 17 --split valid
    """
    from pipeline.corpus.inspect_corpus import print_sample
    from pipeline.corpus.shards import Corpus

    opened = Corpus(corpus)
    print_sample(opened, split, length or opened.sequence_lengths[0], sample, console())


@corpus_app.command("export")
def corpus_export(
    corpus: CorpusFolder,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="the folder to make", show_default=False)],
    format: Annotated[str, typer.Option(help="megatron (.bin and .idx) or datasets (Parquet)", show_default=False)],
    level: Annotated[str, typer.Option(help="sentence, sample or document; see above")] = "",
    length: Annotated[int, typer.Option(help="tokens a sample; 0: the corpus's shortest")] = 0,
) -> None:
    """Write a corpus, verified, in the format of other programs.

    megatron: each sequence is a sentence (for BERT), or with --level document a document (for GPT).
    datasets: each row is a packed sample of --length tokens, or with --level document a document.

    Example: kilobatch corpus export demo/corpus demo/corpus-hf --format datasets --length 128
    """
    from pipeline.corpus.export_corpus import export_corpus

    written = export_corpus(corpus, output, format, level, length)
    print(f"{output}: {corpus} exported" if written else f"{output}: already that export, every file verified")


@app.command()
def pretrain(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print the plan, start nothing")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="take a few steps, say where their time went, stop")
    ] = False,
) -> None:
    """Train on this machine, by the deepspeed launcher. A failed run goes on by itself, a stopped one if run again.

    Example: kilobatch pretrain configs/pretrain/demo.yaml optimizer.learning_rate=1e-3 --dry-run
    """
    from launch import local
    from pipeline.configfile import load_config
    from pipeline.pretrain_config import PretrainConfig

    raise typer.Exit(local.pretrain(load_config(PretrainConfig, config, overrides or []), dry_run, profile))


@app.command()
def launch(
    config: ConfigFile,
    hostfile: Annotated[Path, typer.Option(help="the hosts: a line each, NAME slots=N", show_default=False)],
    overrides: Overrides = None,
    show: Annotated[bool, typer.Option("--print", help="print the DeepSpeed command; contact no host")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything, the hosts too, print the plan, start nothing")
    ] = False,
    preflight: Annotated[bool, typer.Option(help="look at every host before each start")] = True,
    min_hosts: Annotated[
        int, typer.Option(min=0, help="fewer are no run; 0: all at the first start, one at a restart")
    ] = 0,
    master_addr: Annotated[str, typer.Option(help="the first host, as the others reach it; else its name")] = "",
    master_port: Annotated[
        int, typer.Option(min=0, max=65535, help="0: a free one at each start (29500 without preflight)")
    ] = 0,
    ssh_port: Annotated[int, typer.Option(min=0, max=65535, help="of the hosts; 0: as ssh is configured")] = 0,
) -> None:
    """Train on many hosts, by the deepspeed launcher over pdsh and ssh; run it again to go on where it stopped.

    Every host must reach the same run folder, corpus, Python and code by the same paths.

    Example: kilobatch launch configs/pretrain/roberta-base.yaml --hostfile configs/cluster/hostfile --dry-run
    """
    from launch import cluster
    from pipeline.configfile import load_config
    from pipeline.pretrain_config import PretrainConfig

    options = cluster.Options(
        hostfile, master_addr or None, master_port or None, ssh_port or None, preflight, min_hosts
    )
    loaded = load_config(PretrainConfig, config, overrides or [])
    raise typer.Exit(cluster.launch(loaded, options, show, dry_run))


@app.command()
def export(
    run: Run,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="the folder to make", show_default=False)],
    corpus: Annotated[Path | None, typer.Option(help="where the corpus lies now, if it was moved")] = None,
) -> None:
    """The newest sound checkpoint of a run as a Hugging Face model folder.

    Example: kilobatch export demo/run demo/model
    """
    from pipeline.export import export as export_run

    export_run(run, model, corpus)


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="a run's folder, or an export", show_default=False)],
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="the corpus it was trained on", show_default=False)],
    samples: Annotated[int, typer.Option(min=0, help="of the valid split; 0: as the run's configuration says")] = 0,
    pseudo_samples: Annotated[
        int, typer.Option(min=0, help="for the pseudo-perplexity; 0: as the configuration says, or 16")
    ] = 0,
) -> None:
    """Held-out loss, perplexity and pseudo-perplexity of a run's newest sound checkpoint or of its export.

    The loss is the one that the run logged at that step.

    Example: kilobatch evaluate demo/run demo/corpus
    """
    from pipeline.evaluate_saved import evaluate as evaluate_saved

    name, scores = evaluate_saved(path, corpus, samples, pseudo_samples)
    print(
        f"{name}: held-out loss {scores.loss!r}, perplexity {scores.perplexity:,.3f}, "
        f"pseudo-perplexity {scores.pseudo_perplexity:,.3f}"
    )


@app.command()
def finetune(config: ConfigFile, overrides: Overrides = None) -> None:
    """Fine-tune an exported model on a labelled set, perhaps beside the same model from random weights.

    Example: kilobatch finetune configs/finetune/demo.yaml epochs=3
    """
    from pipeline.configfile import load_config
    from pipeline.finetuning.finetune import finetune as run
    from pipeline.finetuning.finetune_config import FinetuneConfig

    run(load_config(FinetuneConfig, config, overrides or []))


@app.command()
def report(
    corpus: CorpusFolder,
    output: Annotated[Path | None, typer.Option(help="a file to write the report to, from the manifest")] = None,
) -> None:
    """Where the report of a corpus is, after its digest was compared; or the report, written anew.

    Example: kilobatch report demo/corpus
    """
    from pipeline.corpus.shards import Corpus
    from pipeline.files import verify_file, write_bytes
    from preprocess.report import REPORT, report

    manifest = Corpus(corpus).manifest
    if output:
        try:
            write_bytes(output, report(manifest).encode())
        except KeyError as error:
            raise InputError(f"{corpus}: its manifest says no {error}; another version wrote it") from None
    elif REPORT not in manifest["files"]:
        raise InputError(f"{corpus}: has no {REPORT}")
    print(output or verify_file(corpus, REPORT, manifest["files"][REPORT]))


def main() -> None:
    """The `kilobatch` command: every mistake of the user's is one line, with an exit code of its own."""
    try:
        code = app(prog_name="kilobatch", standalone_mode=False)  # None, or the code of a typer.Exit
        sys.stdout.flush()
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # which typer has made a code of
        sys.exit(code)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        _fail(_usage(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written at exit
        _fail("", 1)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", InputError.exit_code)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader has enough, such as `head`."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _usage(error: typer.TyperException) -> str:
    """A misused command line, as typer words it (with the nearest name), and where to read on."""
    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    return f"{message}; see '{context.command_path} --help'" if message and context else message


def _fail(message: str, exit_code: int) -> NoReturn:
    if message:  # typer's is empty where no command was given and it has shown the help
        print(f"kilobatch: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
