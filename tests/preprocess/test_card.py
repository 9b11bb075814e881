"""The dataset card: front matter that the Hub takes, and every source's licence and attribution."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard

from pipeline.corpus.shards import Corpus
from preprocess.card import MOST_INPUTS, dataset_card
from tests.text import text_corpus


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture
def manifest(made: Path) -> dict[str, Any]:
    return copy.deepcopy(Corpus(made).manifest)


def front_matter(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    assert DatasetCard(card).data.to_dict() == values
    return values


def test_the_card_of_a_corpus(made: Path, manifest: dict[str, Any]) -> None:
    card = (made / "DATASET_CARD.md").read_text(encoding="utf-8")
    assert card == dataset_card(manifest), "the manifest's file gives the same card"
    assert front_matter(card) == {
        "pretty_name": "Pretraining corpus",
        "license": "other",
        "license_name": "see-sources",
        "annotations_creators": ["no-annotation"],
        "source_datasets": ["original"],
        "task_categories": ["fill-mask"],
        "task_ids": ["masked-language-modeling"],
        "size_categories": ["n<1K"],
        "tags": ["pretraining", "masked-language-modeling", "tokenized", "kilobatch"],
    }
    train = manifest["splits"]["train"]
    samples = f"{train['samples']['32']:,} ({train['fill_rate']['32']:.1%} filled)"
    assert f"| train | 45 | {train['sentences']:,} | {train['tokens']:,} | {samples} |" in card
    assert f"| text | text | 60 | {manifest['counts']['tokens']:,} | not stated | not stated |" in card
    settings = card.split("are added:\n")[1].split("\ngives the same")[0]
    assert yaml.safe_load(settings) == manifest["config"]
    for entry in manifest["inputs"]:
        assert f"| {entry['name']} | {entry['bytes']:,} | {entry['sha256']} |" in card


@pytest.mark.parametrize(
    ("documents", "size"),
    [
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (9_999_999, "1M<n<10M"),
        (10_000_000, "10M<n<100M"),
        (2 * 10**9, "1B<n<10B"),
    ],
)
def test_sizes_are_the_hubs(manifest: dict[str, Any], documents: int, size: str) -> None:
    manifest["counts"]["kept"] = documents
    assert front_matter(dataset_card(manifest))["size_categories"] == [size]


@pytest.mark.parametrize(
    ("licenses", "shown"),
    [
        (["CC BY-SA 3.0"], "cc-by-sa-3.0"),
        (["MIT", "cc0-1.0", "mit"], ["cc0-1.0", "mit"]),
        (["MIT", "public domain"], "other"),
        (["MIT", ""], "other"),
    ],
)
def test_licences_are_named_if_the_hub_has_names_for_all(
    manifest: dict[str, Any], licenses: list[str], shown: str | list[str]
) -> None:
    source = manifest["config"]["sources"][0]
    manifest["config"]["sources"] = [{**source, "license": license} for license in licenses]
    card = dataset_card(manifest)
    assert front_matter(card)["license"] == shown
    assert all(f"| {license} | not stated |" in card for license in licenses if license)


def test_languages_are_named_if_all_sources_were_filtered(manifest: dict[str, Any]) -> None:
    language = {"accept": ["en", "zh"], "min_probability": 0.65, "characters": 2000, "sources": None}
    manifest["config"]["filter"]["language"] = language
    assert front_matter(dataset_card(manifest))["language"] == ["en", "zh"]
    language["sources"] = ["text"]
    assert "language" not in front_matter(dataset_card(manifest))


def test_what_stands_in_a_cell_stays_there(manifest: dict[str, Any]) -> None:
    manifest["config"]["sources"][0]["attribution"] = "a | b\n\n---\n<script>&lt;"
    assert "| a \\| b --- &lt;script>&amp;lt; |" in dataset_card(manifest)


def test_near_duplicates_filters_and_many_inputs(manifest: dict[str, Any]) -> None:
    assert "Near-duplicates were not looked for." in dataset_card(manifest)
    near = {"ngram": 5, "bands": 14, "rows": 8, "action": "drop"}
    manifest["config"]["dedup"]["near"] = near
    manifest["config"]["filter"]["gopher_quality"] = {"min_words": 51}
    manifest["counts"] |= {"cluster_sizes": {"2": 3, "10": 1}, "near_duplicates": 12}
    manifest["inputs"] = manifest["inputs"] * 5
    card = dataset_card(manifest)
    assert "4 clusters of near-duplicates" in card
    assert "the first of each is kept: 12 left out" in card
    assert "    gopher_quality:\n      min_words: 51\n    min_characters: 200\n" in card
    assert f"{len(manifest['inputs']) - MOST_INPUTS} more are in `manifest.json`" in card
    near["action"] = "keep-together"
    assert "all are kept, those of a cluster in one split" in dataset_card(manifest)
