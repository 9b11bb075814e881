"""Raw text → token shards: the graph. A few pipelines in a row; what all but the last make is remembered.

    documents   unit → read, clean, filter → file;  (content hash, claim) → group → (unit, duplicates) → group → file
    near        unit → MinHash bands → file;  part of all bands → links between documents → file;  all → clusters
    tokenizer   unit → sample of sentences → file;  all → train → tokenizer/
    tokens      unit → encode → file
    shards      unit → (shard, place) → group → sort, pack → shard

Each is one chain with one leaf, from a listed `Create`, grouped by integers; no text passes through a shuffle, nothing
is returned through the runner. Every Beam runner does that much right.
"""

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.corpus.dead_letters import examples
from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError
from pipeline.files import (
    file_sha256,
    publish_folder,
    remove_unfinished,
    sync_folder,
    unmakeable,
    work_folder,
    write_bytes,
    write_json,
)
from preprocess import documents, evaluation, kept, manifest, near, sample, sink, sources, tokenizer, tokens
from preprocess.card import dataset_card
from preprocess.config import CorpusConfig, Source
from preprocess.failures import explained
from preprocess.filters import language
from preprocess.graph import PipelineOptions, beam, running
from preprocess.interrupt import interruptible
from preprocess.options import pipeline_options
from preprocess.plan import Plan, total
from preprocess.progress import progress
from preprocess.report import REPORT, report
from preprocess.shares import over
from preprocess.split import shard_keys, split_of
from preprocess.stages import stage, stages_folder

Claim = tuple[str, str, int, int, int]
Loser = tuple[int, str, int, str]
Place = tuple[str, int, int, int, int, int]


def make_documents(plan: Plan, options: PipelineOptions) -> None:
    """Units → clean documents on disk, and which of them are duplicates."""
    work = str(plan.work)
    decontaminate = plan.config.filter.decontaminate
    ngrams_sha256 = ""
    if decontaminate:
        ngram, cleaning = decontaminate.ngram, plan.config.clean
        ngrams_sha256 = evaluation.write_ngrams(plan.evaluation, ngram, plan.ngrams, cleaning)
    with (
        progress("reading and cleaning", len(plan.units), plan.folders["documents"], "unit-*.json"),
        running(options, plan.work) as pipeline,
    ):
        (
            pipeline
            | beam.Create(plan.tasks())
            | "clean"
            >> beam.FlatMap(documents.write_documents, work, ngrams_sha256).with_output_types(tuple[int, Claim])
            | "by hash" >> beam.GroupByKey()
            | "duplicates" >> beam.FlatMap(documents.find_losers).with_output_types(tuple[int, Loser])
            | "by unit" >> beam.GroupByKey()
            | "write" >> beam.Map(documents.write_losers, work)
        )
    plan.raise_first_error()


def find_near_duplicates(plan: Plan, options: PipelineOptions) -> None:
    """Documents → clusters of near-duplicates."""
    make_bands(plan, options)
    parts = near.parts(plan)
    make_links(plan, options, parts)
    near.write_clusters(plan, parts)


def make_bands(plan: Plan, options: PipelineOptions) -> None:
    """Documents → the bands of their signatures."""
    with (
        progress("hashing for near-duplicates", len(plan.units), plan.folders["near"], "unit-*.json"),
        running(options, plan.work) as pipeline,
    ):
        pipeline | beam.Create(plan.tasks()) | "bands" >> beam.Map(near.write_bands, str(plan.work))
    plan.raise_first_error()


def make_links(plan: Plan, options: PipelineOptions, parts: int) -> None:
    """Bands → links between documents that share one."""
    with (
        progress("finding near-duplicates", parts, plan.folders["near"], "part-*"),
        running(options, plan.work) as pipeline,
    ):
        links = beam.Map(near.write_links, str(plan.work), parts)
        pipeline | beam.Create(list(range(parts))) | "links" >> links
    plan.raise_first_error()


def make_tokenizer(plan: Plan, options: PipelineOptions) -> None:
    """Documents → a sample of sentences → the tokenizer; or the one that is given."""
    config = plan.config.tokenizer
    if config.type == "loaded":
        return tokenizer.write(plan.folders["tokenizer"], tokenizer.load(config), plan.config.sequence_lengths[-1])
    work, below = str(plan.work), sample.threshold(config, kept.characters(plan))
    with (
        progress("training the tokenizer", 1, plan.tokenizer, "tokenizer.json"),
        running(options, plan.work) as pipeline,
    ):
        (
            pipeline
            | beam.Create(plan.tasks())
            | "sample" >> beam.Map(sample.write_sample, work, below).with_output_types(tuple[int, int])
            | "all" >> beam.GroupByKey()
            | "train" >> beam.Map(sample.train_tokenizer, work)
        )
    plan.raise_first_error()


def make_tokens(plan: Plan, options: PipelineOptions) -> None:
    """Documents → token ids."""
    digest = file_sha256(plan.tokenizer / "tokenizer.json")
    with (
        progress("encoding", len(plan.units), plan.folders["tokens"]),
        running(options, plan.work) as pipeline,
    ):
        encode = beam.Map(tokens.write_tokens, str(plan.work), digest)
        pipeline | beam.Create(plan.tasks()) | "encode" >> encode
    plan.raise_first_error()


def make_shards(plan: Plan, options: PipelineOptions) -> None:
    """Token ids → packed shards."""
    work, folder = str(plan.work), plan.work / "shards"
    folder.mkdir()
    plan.corpus.mkdir()
    plan.save()
    sink.cut_shards(plan)
    keys = [key for split in plan.config.split.names for key in shard_keys(split, plan.config.shards)]
    with progress("packing", len(keys), folder), running(options, plan.work) as pipeline:
        (
            pipeline
            | beam.Create(plan.tasks())
            | "places" >> beam.FlatMap(sink.places, work).with_output_types(tuple[int, Place])
            | "by shard" >> beam.GroupByKey()
            | "pack" >> beam.Map(sink.write_one_shard, work)
        )
    plan.raise_first_error()
    for key in keys:
        if not (folder / f"{key:05d}.json").exists():
            sink.write_one_shard((key, ()), work)  # no document fell to it


def run(config: CorpusConfig, beam_options: Sequence[str] = ()) -> Path:
    """Make the corpus of a configuration, or find it made.

    Args:
        beam_options: Beam's own command line, such as `--direct_running_mode=multi_processing`.

    Returns:
        The corpus folder.

    Raises:
        InputError: an input is missing or damaged, a language unknown, no document is left, a split is empty, the text
            is too little for the vocabulary, or the output is another corpus. DigestError: the output is this corpus,
            but damaged.
    """
    options = pipeline_options(beam_options)
    if config.filter.language:
        language.check(config.filter.language)
    if config.tokenizer.type == "loaded":
        tokenizer.load(config.tokenizer)  # what is wrong with it is said at once
    output = _resolved(config.output)
    units = sources.list_units(config.sources)
    files = evaluation.list_files(config.filter.decontaminate)
    if output.exists() or output.is_symlink():
        _check_up_to_date(output, manifest.recipe(config, [*units, *files]), config.output)
        return config.output
    with (
        explained(output.parent),
        interruptible(),
        work_folder(output) as work,
        stages_folder(config, output) as stages,
    ):
        plan = Plan(work, stages, config, units, evaluation=files)
        plan = stage("documents", plan, partial(make_documents, options=options))
        _check_documents(plan)
        if config.dedup.near:
            plan = stage("near", plan, partial(find_near_duplicates, options=options))
        _check_splits(plan)
        plan = stage("tokenizer", plan, partial(make_tokenizer, options=options))
        plan = stage("tokens", plan, partial(make_tokens, options=options))
        _check_tokens(plan)
        make_shards(plan, options)
        manifest.verify_counts(plan)
        _finish(plan)
        publish_folder(plan.corpus, output)
    return config.output


def _resolved(output: Path) -> Path:
    """The absolute path of the output; only its last part may be a link, so that it is not followed.

    Raises:
        InputError: no path can be so.
    """
    try:
        resolved = output.parent.resolve() / output.name
        resolved.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long or not allowed; a NUL; a circle of links
        raise unmakeable(output, error) from None
    return resolved


def _check_up_to_date(output: Path, wanted: dict[str, Any], shown: Path) -> None:
    """The output exists: it must be this very corpus, whole.

    Raises:
        InputError: it is something else, or another corpus. DigestError: a file of it was altered.
    """
    corpus = Corpus(output)
    differing = manifest.differences(wanted, manifest.recipe_of(corpus.manifest))
    if differing:
        raise InputError(
            f"{shown}: there is a corpus already, and it differs in {', '.join(differing)};"
            " give another output, or move that folder away"
        )
    corpus.verify()
    print(f"{shown}: up to date, every file verified", file=sys.stderr)


def _check_documents(plan: Plan) -> None:
    """Stop before anything is trained when documents or a split are missing; tell about refused files."""
    results = plan.results("documents")
    letters = total([result["dead_letters"] for result in results])
    paths = [plan.file("documents", unit.number, "jsonl") for unit in plan.units]
    drawn = examples(line for path in paths for line in path.read_bytes().splitlines())
    for rule, number in letters.items():
        print(f"dead letters: {number} {rule}, such as {drawn[rule][0]}", file=sys.stderr)
    accepted = sum(result["accepted"] for result in results)
    if not accepted:
        skipped = total([result["skipped"] for result in results])
        found = ", ".join(f"{number} {rule}" for rule, number in {**letters, **skipped}.items()) or "nothing"
        raise InputError(f"{plan.config.output}: no valid document in {len(plan.units)} input files; found {found}")
    for source in plan.config.sources:
        _check_source(plan, source)


def _check_splits(plan: Plan) -> None:
    """Stop when no document falls to a split; reads no further than to the first of each."""
    wanted = dict.fromkeys(plan.config.split.names)
    for unit in plan.units:
        for row in kept.kept(plan, unit.number, ["hash"]):
            wanted.pop(split_of(row["cluster"], plan.config.seed, plan.config.split), None)
            if not wanted:
                return
    accepted = sum(result["accepted"] for result in plan.results("documents"))
    fractions = " ".join(f"split.{key}={value}" for key, value in plan.config.split)
    raise InputError(
        f"{plan.config.output}: the {next(iter(wanted))} split is empty: none of {accepted} documents fell to it with"
        f" {fractions}; change it, give another seed or more documents"
    )


def _check_source(plan: Plan, source: Source) -> None:
    """Stop when a source yields too little, or too much of it cannot be read or cleaned."""
    results = [
        result for unit, result in zip(plan.units, plan.results("documents"), strict=True) if unit.source == source.name
    ]
    accepted = sum(result["accepted"] for result in results)
    letters = total([result["dead_letters"] for result in results])
    broken = sum(result["broken"] for result in results)
    texts = accepted + sum(letters.values())
    if over(broken, texts, plan.config.dead_letters.max_share):
        raise InputError(
            f"{plan.config.output}: source {source.name!r}: {broken} of {texts} texts cannot be read or cleaned, over"
            f" dead_letters.max_share={plan.config.dead_letters.max_share}"
        )
    if accepted < source.min_documents:
        raise InputError(
            f"{plan.config.output}: source {source.name!r} yields {accepted} documents, its min_documents is"
            f" {source.min_documents}"
        )


def _check_tokens(plan: Plan) -> None:
    """Stop when a source yields too few tokens, or the exported tokenizer would give others."""
    manifest.check_tokenizers(plan)
    tokens = dict.fromkeys((source.name for source in plan.config.sources), 0)
    for unit, result in zip(plan.units, plan.results("tokens"), strict=True):
        tokens[unit.source] += result["tokens"]
    for source in plan.config.sources:
        if tokens[source.name] < source.min_tokens:
            raise InputError(
                f"{plan.config.output}: source {source.name!r} yields {tokens[source.name]} tokens, its min_tokens is"
                f" {source.min_tokens}"
            )


def _finish(plan: Plan) -> None:
    """Dead letters, card, report and, last, the manifest."""
    remove_unfinished(plan.corpus)  # of workers that were killed while others did their tasks
    folder = plan.corpus / "dead-letters"
    folder.mkdir()
    for source in sorted({unit.source for unit in plan.units}):
        lines = [
            line
            for unit in plan.units
            if unit.source == source
            for line in plan.file("documents", unit.number, "jsonl").read_bytes().splitlines(keepends=True)
        ]
        write_bytes(folder / f"{source}.jsonl", b"".join(sorted(lines)))
    shutil.copytree(plan.tokenizer, plan.corpus / "tokenizer")
    built = manifest.build(plan)
    described = manifest.with_files(built, plan.corpus)
    write_bytes(plan.corpus / "DATASET_CARD.md", dataset_card(described).encode())
    write_bytes(plan.corpus / REPORT, report(described).encode())
    write_json(plan.corpus / "manifest.json", manifest.sealed(built, plan.corpus))
    for path in (folder, plan.corpus / "tokenizer"):
        sync_folder(path)
