"""Language identification: told from the beginning, by the same numbers everywhere, and only where it is asked for."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.shards import Corpus
from pipeline.errors import InputError
from preprocess.config import LanguageConfig
from preprocess.filters import language
from preprocess.run import run
from tests.preprocess.small import small_config, write_raw

TEXTS = {
    "en": "The river rises in the hills north of the town and flows through meadows to the sea, where fishermen live.",
    "de": "Der Fluss entspringt in den Hügeln nördlich der Stadt und fließt durch Wiesen zum Meer, wo Fischer leben.",
    "fr": "La rivière prend sa source dans les collines au nord de la ville et coule jusqu'à la mer, où l'on pêche.",
    "zh": "这条河发源于城北的山丘，穿过草地流入大海，几百年来渔民一直住在那里，以打鱼为生。",
    "ja": "この川は町の北の丘から流れ出し、草原を通って海に注ぐ。そこには何百年も前から漁師が住んでいる。",
}

GOLDEN = {"en": "0.999750295", "de": "0.999615967", "fr": "0.999915690", "zh": "0.785737279", "ja": "1.000000000"}


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_told_apart(code: str) -> None:
    assert language.identify(TEXTS[code])[0] == code
    assert language.refuse(TEXTS[code], LanguageConfig(accept=["fi", code])) is None
    others = [other for other in TEXTS if other != code]
    refusal = language.refuse(TEXTS[code], LanguageConfig(accept=others))
    assert refusal is not None
    assert refusal[0] == "language"
    assert re.fullmatch(rf"{code} at [01]\.\d+, expected {' or '.join(others)} at 0\.65 or more", refusal[1])


def test_the_limit_and_how_much_is_read() -> None:
    probability = language.identify(TEXTS["en"])[1]
    assert language.refuse(TEXTS["en"], LanguageConfig(accept=["en"], min_probability=probability)) is None
    assert language.refuse(TEXTS["en"], LanguageConfig(accept=["en"], min_probability=probability + 1e-9))
    mixed = TEXTS["de"] + TEXTS["en"] * 50
    assert language.refuse(mixed, LanguageConfig(accept=["en"], characters=5000)) is None
    assert language.refuse(mixed, LanguageConfig(accept=["en"], characters=len(TEXTS["de"])))


def test_probabilities_are_the_same_on_every_machine() -> None:
    """In float64, so that the last bits, in which processors differ, are far from what a limit may fall on."""
    found = {code: language.identify(text)[1] for code, text in TEXTS.items()}
    assert {code: f"{probability:.9f}" for code, probability in found.items()} == GOLDEN
    assert all(float(np.float32(probability)) != probability for probability in found.values())


def test_texts_without_words_are_in_no_language() -> None:
    for text in ("", "1234 5678 !!", "\ud800"):
        assert language.refuse(text, LanguageConfig(accept=["en"]))


def test_what_is_wrong_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path / "raw")
    config = small_config(tmp_path / "raw", tmp_path / "corpus", filter={"language": {"accept": ["en", "eng"]}})
    with pytest.raises(InputError, match=r"filter.language.accept: found 'eng'; did you mean 'en'[?]"):
        run(config)
    language._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(InputError, match=r"filter.language: needs py3langid; pip install 'kilobatch\[language\]'"):
        run(config)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_documents_in_other_languages_are_dead_letters(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    lines: list[dict[str, Any]] = [{"text": TEXTS[code] * 3, "id": code} for code in TEXTS]
    with (tmp_path / "raw" / "lines.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    only_lines = {"language": {"accept": ["en"], "sources": ["lines"], "min_probability": 0}, "min_characters": 100}
    corpus = run(small_config(tmp_path / "raw", tmp_path / "corpus", filter=only_lines, seed=6))
    letters = map(json.loads, (corpus / "dead-letters" / "lines.jsonl").read_text().splitlines())
    refused = [letter["id"].partition(":")[2] for letter in letters if letter["rule"] == "language"]
    assert sorted(set(refused) & set(TEXTS)) == ["de", "fr", "ja", "zh"]
    manifest = Corpus(corpus).manifest
    assert manifest["counts"]["sources"]["books"]["dead_letters"] == {"not-utf-8": 1}
    assert manifest["versions"]["py3langid"] == "0.4.0"
