"""DATASET_CARD.md, in Hugging Face's format: what the corpus is, where its text is from, and under which licences."""

import textwrap
from typing import Any

import yaml

from pipeline.corpus.shards import PAIRS
from preprocess.rates import rates

MOST_INPUTS = 200  # files that are listed; manifest.json has all

_SIZES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
)
# of the Hub's names of licences those that corpora have; others are told in words
_LICENSES = (
    "apache-2.0", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gfdl", "mit", "odc-by", "odbl", "pddl", "unlicense",
)  # fmt: skip


def _cell(text: str) -> str:
    """A text that cannot leave its cell, nor be read as HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split()) or "not stated"


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _size_category(documents: int) -> str:
    return _SIZES[min(max(len(str(documents)) - 3, 0), len(_SIZES) - 1)]


def _license(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """What the Hub shows: the licences of all sources, if it has names for all of them."""
    names = {"-".join(source["license"].lower().split()) for source in sources}
    if not names <= {*_LICENSES}:
        return {"license": "other", "license_name": "see-sources"}
    return {"license": sorted(names) if len(names) > 1 else names.pop()}


def _languages(config: dict[str, Any]) -> dict[str, list[str]]:
    """The corpus's languages, if it is known that it has no others."""
    language = config["filter"]["language"]
    return {"language": language["accept"]} if language and language["sources"] is None else {}


def _front_matter(manifest: dict[str, Any]) -> str:
    values = {
        "pretty_name": "Pretraining corpus",
        **_license(manifest["config"]["sources"]),
        **_languages(manifest["config"]),
        "annotations_creators": ["no-annotation"],
        "source_datasets": ["original"],
        "task_categories": ["fill-mask"],
        "task_ids": ["masked-language-modeling"],
        "size_categories": [_size_category(manifest["counts"]["kept"])],
        "tags": ["pretraining", "masked-language-modeling", "tokenized", "kilobatch"],
    }
    return yaml.safe_dump(values, sort_keys=False)


def _code(text: str) -> str:
    return textwrap.indent(text, "    ")


def _splits(manifest: dict[str, Any]) -> str:
    lengths = [str(length) for length in manifest["sequence_lengths"]]
    rows = [
        [name, *(f"{split[key]:,}" for key in ("documents", "sentences", "tokens"))]
        + [f"{split['samples'][length]:,} ({split['fill_rate'][length]:.1%} filled)" for length in lengths]
        for name, split in sorted(
            manifest["splits"].items(), key=lambda item: ["train", "valid", "test"].index(item[0])
        )
    ]
    what = "pairs" if manifest["packing"] in PAIRS else "samples"
    return _table(["split", "documents", "sentences", "tokens", *(f"{what} of {length}" for length in lengths)], rows)


def _sources(manifest: dict[str, Any]) -> str:
    counts = manifest["counts"]["sources"]
    rows = []
    for source in manifest["config"]["sources"]:
        found = (f"{counts[source['name']][key]:,}" for key in ("kept", "tokens"))
        rows.append([source["name"], source["type"], *found, source["license"], source["attribution"]])
    return _table(["source", "type", "documents", "tokens", "licence", "attribution"], rows)


def _duplicates(manifest: dict[str, Any]) -> str:
    counts, near = manifest["counts"], manifest["config"]["dedup"]["near"]
    exact = f"Of documents of the same words, whatever their case and spacing, {counts['duplicates']:,} were left out."
    if near is None:
        return f"{exact}\nNear-duplicates were not looked for."
    rule = f"MinHash over word {near['ngram']}-grams, {near['bands']} bands of {near['rows']} rows"
    clusters = f"{sum(counts['cluster_sizes'].values()):,} clusters of near-duplicates were found ({rule})"
    if near["action"] == "drop":
        return f"{exact}\n{clusters}; the first of each is kept: {counts['near_duplicates']:,} left out."
    return f"{exact}\n{clusters}; all are kept, those of a cluster in one split."


def _by_rule(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {rule}" for rule, number in counts.items()) or "none"


def _made(manifest: dict[str, Any]) -> str:
    """Cleaning, filters and duplicates."""
    counts, config = manifest["counts"], manifest["config"]
    filters = {name: rule for name, rule in config["filter"].items() if rule is not None}
    removed = f"\nCounted while cleaning: {_by_rule(counts['removed'])}." if counts.get("removed") else ""
    return f"""Of {counts["read"]:,} pages, files, lines and rows that were read, {counts["kept"]:,} are in the corpus.
Skipped on purpose: {_by_rule(counts["skipped"])}.
Refused, each with its reason in the corpus's `dead-letters/`: {_by_rule(counts["dead_letters"])}.

Markup, licence texts and what readers do not see were removed.{removed}
Unicode is in the form {config["clean"]["unicode_form"]}.

These filters were applied:

{_code(yaml.safe_dump(filters))}
{_duplicates(manifest)}

A document belongs to a split by the hash of its text, or of the first of its near-duplicates."""


def _tokenizer(manifest: dict[str, Any]) -> str:
    made = manifest["tokenizer"]
    fit = rates(made["encoded"], made["encoded"]["documents"])
    return f"""`{made["type"]}`, {made["vocab_size"]:,} pieces; `AutoTokenizer` reads `tokenizer/`.
It makes {fit.tokens_a_word:.3f} tokens of what stands between white space; a token has {fit.characters_a_token:.2f}
characters; {fit.byte_share:.3%} of the tokens are bytes.
Fingerprint: `{made["fingerprint"]}`"""


def _inputs(manifest: dict[str, Any]) -> str:
    inputs = manifest["inputs"]
    rows = [[entry["source"], entry["name"], f"{entry['bytes']:,}", entry["sha256"]] for entry in inputs[:MOST_INPUTS]]
    left = len(inputs) - len(rows)
    more = f"\n\n{left:,} more are in `manifest.json`." if left else ""
    return _table(["source", "file", "bytes", "SHA-256"], rows) + more


def dataset_card(manifest: dict[str, Any]) -> str:
    """The card of a corpus, from a manifest that has its corpus digest."""
    counts = manifest["counts"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()))
    return f"""---
{_front_matter(manifest)}---

# Pretraining corpus

{counts["kept"]:,} documents, {counts["tokens"]:,} tokens, for the pretraining of encoders: cleaned, without duplicates,
encoded, and packed ({manifest["packing"]}). Written by Kilobatch.

Corpus digest: `{manifest["corpus_digest"]}`

## Sources and licences

{_sources(manifest)}

## Splits

{_splits(manifest)}

## How it was made

{_made(manifest)}

## Tokenizer

{_tokenizer(manifest)}

## Limitations

The text is that of its sources, with their errors, their opinions, and what they tell of people; nothing was left out
but by the rules above. White space and titles are not kept: tokens give back a document's text as one line.
The rights in the text are those of the sources.

## To make it again

    kilobatch preprocess CONFIG
    kilobatch corpus verify CORPUS

with the inputs below and these settings, to which the sources' `paths` are added:

{_code(yaml.safe_dump(manifest["config"], allow_unicode=True))}
gives the same bytes. It was made with {versions}.

## Inputs

{_inputs(manifest)}
"""
