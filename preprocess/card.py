"""DATASET_CARD.md, in Hugging Face's format: what the corpus is, where its text is from, and under which licences."""

from typing import Any

import yaml

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

_TOKENIZERS = {"sentencepiece-unigram": "SentencePiece unigram", "sentencepiece-bpe": "SentencePiece BPE"}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "not stated"


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _front_matter(manifest: dict[str, Any]) -> str:
    documents = manifest["counts"]["kept"]
    size = next((name for bound, name in _SIZES if documents < bound), "n>10M")
    values = {
        "license": "other",
        "license_name": "see-sources",
        "task_categories": ["fill-mask"],
        "size_categories": [size],
        "tags": ["pretraining", "masked-language-modeling", "kilobatch"],
    }
    return yaml.safe_dump(values, sort_keys=False)


def _near(manifest: dict[str, Any]) -> str:
    near = manifest["config"]["dedup"]["near"]
    if near is None:
        return ""
    rule = f"MinHash over {near['ngram']}-grams, {near['bands']} bands of {near['rows']} rows"
    return f" and near-duplicates ({rule})" if near["action"] == "drop" else f", near-duplicates in one split ({rule})"


def dataset_card(manifest: dict[str, Any]) -> str:
    """The card of a corpus, from a manifest that has its corpus digest."""
    counts, tokenizer = manifest["counts"], manifest["tokenizer"]
    sources = [
        [
            source["name"],
            source["type"],
            counts["sources"][source["name"]]["kept"],
            source["license"],
            source["attribution"],
        ]
        for source in manifest["config"]["sources"]
    ]
    lengths = [str(length) for length in manifest["sequence_lengths"]]
    splits = [
        [name, *(f"{split[key]:,}" for key in ("documents", "sentences", "tokens"))]
        + [f"{split['samples'][length]:,} ({split['fill_rate'][length]:.1%} filled)" for length in lengths]
        for name, split in manifest["splits"].items()
    ]
    letters = ", ".join(f"{number} {rule}" for rule, number in counts["dead_letters"].items()) or "none"
    skipped = ", ".join(f"{number} {rule}" for rule, number in counts["skipped"].items()) or "none"
    inputs = [[entry["source"], entry["name"], f"{entry['bytes']:,}", entry["sha256"]] for entry in manifest["inputs"]]
    return f"""---
{_front_matter(manifest)}---

# Pretraining corpus

{counts["kept"]:,} documents, cleaned, without exact duplicates{_near(manifest)}.
Encoded with a {_TOKENIZERS[tokenizer["type"]]} tokenizer of {tokenizer["vocab_size"]:,} pieces
and packed as in RoBERTa's {manifest["config"]["packing"].upper()}.
Written by Kilobatch.

Corpus digest: `{manifest["corpus_digest"]}`
Tokenizer fingerprint: `{tokenizer["fingerprint"]}`

## Sources and licences

{_table(["source", "type", "documents", "licence", "attribution"], sources)}

## Splits

A document belongs to a split by the hash of its text.

{_table(["split", "documents", "sentences", "tokens", *(f"samples of {length}" for length in lengths)], splits)}

## What was left out

Of {counts["read"]:,} pages and files: {counts["duplicates"]:,} exact duplicates;
{counts["near_duplicates"]:,} near-duplicates; skipped on purpose: {skipped};
refused (see `dead-letters/`): {letters}.

## Inputs

{_table(["source", "file", "bytes", "SHA-256"], inputs)}
"""
