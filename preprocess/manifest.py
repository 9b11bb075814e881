"""The corpus manifest: what is in the corpus, what it was made from, and the digests that prove both."""

import importlib.metadata
from pathlib import Path
from typing import Any

from pipeline.corpus.shards import FORMAT, KIND, corpus_digest
from pipeline.errors import InputError
from pipeline.files import describe_files, read_json, seal
from preprocess import kept
from preprocess.config import CorpusConfig
from preprocess.origin import versions
from preprocess.plan import Plan, total
from preprocess.records import Unit
from preprocess.sink import shard_results
from preprocess.stages import settings

ENCODED = ("documents", "tokens", "characters", "words", "byte_tokens")  # what the tokenizer made of the text
SIMPLE = ("read", "kept", "tokens", "duplicates", "near_duplicates")  # counts that are one number


def recipe(config: CorpusConfig, units: list[Unit]) -> dict[str, Any]:
    """All that a corpus's bytes follow from. Paths and limits are not part of it, the inputs' digests are."""
    files = [u for u in units if u.begin == 0]  # a file's other units are ranges of it
    return {
        "config": settings(config),
        "inputs": [{"source": u.source, "name": u.name, "bytes": u.bytes, "sha256": u.sha256} for u in files],
        "code": importlib.metadata.version("kilobatch"),
    }


def differences(wanted: dict[str, Any], found: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys at which two recipes differ, dotted."""
    keys: list[str] = []
    for key in sorted({*wanted, *found}):
        if wanted.get(key) != found.get(key):
            both = isinstance(wanted.get(key), dict) and isinstance(found.get(key), dict)
            keys += differences(wanted[key], found[key], f"{prefix}{key}.") if both else [prefix + key]
    return keys


def recipe_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a finished corpus was made by."""
    return {"config": manifest["config"], "inputs": manifest["inputs"], "code": manifest["versions"]["kilobatch"]}


def split_summary(plan: Plan, split: str) -> dict[str, Any]:
    """Counts of one split; fill rate: the share of a sample's T positions that hold no `<pad>`."""
    results = [read_json(path) for path in shard_results(plan, split)]
    samples = total([result["samples"] for result in results])
    filled = total([result["filled"] for result in results])
    lengths = map(str, plan.config.sequence_lengths)
    summed = total([{key: result[key] for key in ("documents", "sentences", "tokens")} for result in results])
    rates = {length: round(filled[length] / (int(length) * samples[length]), 6) for length in lengths}
    sizes = [result["tokens"] for result in results]
    balance = {"shard_tokens": {"min": min(sizes), "max": max(sizes)}}
    return {"shards": len(results), **summed, **balance, "samples": samples, "fill_rate": rates}


def count(plan: Plan) -> dict[str, Any]:
    """What became of every page, by source and in all."""
    sources: dict[str, dict[str, Any]] = {}
    results, encoded = plan.results("documents"), plan.results("tokens")
    for source in sorted({unit.source for unit in plan.units}):
        numbers = [unit.number for unit in plan.units if unit.source == source]
        skipped = total([results[n]["skipped"] for n in numbers])
        letters = total([results[n]["dead_letters"] for n in numbers])
        accepted = sum(results[n]["accepted"] for n in numbers)
        kept_here = sum(encoded[n]["documents"] for n in numbers)
        exact = sum(len(kept.duplicates(plan, n)) for n in numbers)
        sources[source] = {
            "read": accepted + sum(skipped.values()) + sum(letters.values()),
            "kept": kept_here,
            **total(
                [{key: encoded[n][key] for key in ("tokens", "characters", "words", "byte_tokens")} for n in numbers]
            ),
            "duplicates": exact,
            "near_duplicates": accepted - kept_here - exact,
            "dead_letters": letters,
            "skipped": skipped,
            "removed": total([results[n]["removed"] for n in numbers]),
        }
    simple = total([{key: entry[key] for key in SIMPLE} for entry in sources.values()])
    nested = {key: total([entry[key] for entry in sources.values()]) for key in ("dead_letters", "skipped", "removed")}
    found = {"cluster_sizes": kept.cluster_sizes(plan), "document_lengths": document_lengths(plan)}
    return {**simple, **nested, **found, "sources": sources}


def document_lengths(plan: Plan) -> dict[str, dict[str, int]]:
    """By split, how many documents have k to 2k − 1 tokens (separator included), k a power of two."""
    by_split = {
        split: total([read_json(path)["lengths"] for path in shard_results(plan, split)])
        for split in plan.config.split.names
    }
    return {split: {key: found[key] for key in sorted(found, key=int)} for split, found in by_split.items()}


def verify_counts(plan: Plan) -> None:
    """Every document and token that a unit encoded is in a shard: a runner that lost or doubled one is found out."""
    encoded = total(
        [{key: result[key] for key in ("documents", "tokens", "sentences")} for result in plan.results("tokens")]
    )
    losers = sum(
        len(found(plan, unit.number)) for unit in plan.units for found in (kept.duplicates, kept.near_duplicates)
    )
    accepted = sum(result["accepted"] for result in plan.results("documents"))
    assert encoded["documents"] + losers == accepted, (encoded, losers, accepted)
    for key, expected in encoded.items():
        found = sum(
            int(read_json(path)[key]) for split in plan.config.split.names for path in shard_results(plan, split)
        )
        if found != expected:
            raise InputError(
                f"the runner lost or doubled data: {found} {key} in the shards, expected {expected}; use another"
            )


def check_tokenizers(plan: Plan) -> int:
    """The number of documents that `tokenizer.json` is known to give other ids for than the corpus has.

    Those are the ones that spell a special token (to `tokenizer.json` it is one, to the corpus it is characters), and
    others of which some are drawn and compared; there should be none.

    Raises:
        InputError: more than one, and more than one in ten thousand.
    """
    results = plan.results("tokens")
    mismatches, documents = (sum(result[key] for result in results) for key in ("mismatches", "documents"))
    names = [name for result in results for name in result["mismatching"]]
    if mismatches > max(1, documents // 10_000):
        raise InputError(
            f"tokenizer.json and the corpus differ on {mismatches} of {documents} documents, such as"
            f" {', '.join(names[:3])}; expected one in ten thousand at most: where a text holds a special token, such"
            " as <s> or <mask>, take it out of the text, or the document out of the source"
        )
    return int(mismatches)


def build(plan: Plan) -> dict[str, Any]:
    """The manifest without `files` and digests."""
    config = plan.config
    made_by = recipe(config, plan.inputs)
    encoded = total([{key: result[key] for key in ENCODED} for result in plan.results("tokens")])
    return {
        "kind": KIND,
        "format": FORMAT,
        "tokenizer": {
            "type": config.tokenizer.type,
            "vocab_size": plan.vocabulary.size,
            "special_ids": plan.vocabulary.special_ids,
            "encoded": encoded,
            "mismatching_documents": check_tokenizers(plan),
        },
        "packing": config.packing,
        "sequence_lengths": config.sequence_lengths,
        "splits": {split: split_summary(plan, split) for split in plan.config.split.names},
        "inputs": made_by["inputs"],
        "counts": count(plan),
        "config": made_by["config"],
        "versions": versions(config),
    }


def with_files(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest with the digests of all files in `folder`, and its corpus digest; not yet sealed.

    The corpus digest is that of what training sees: library versions, attribution and reports do not change it.
    """
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = describe_files(folder, names, in_blocks=(".tokens", ".index"))
    made = {**manifest["tokenizer"], "fingerprint": files["tokenizer/tokenizer.json"]["sha256"]}
    manifest = {**manifest, "files": files, "tokenizer": made}
    return {**manifest, "corpus_digest": corpus_digest(manifest)}


def sealed(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The whole manifest, to be written last."""
    return seal(with_files(manifest, folder))
