"""The folder of a run: which checkpoint to go on from, what is forgotten, and what a checkpoint must agree with."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoints.run_folder import RunFolder, check_provenance, stamp, verify_checkpoint
from pipeline.configfile import load_config
from pipeline.corpus.shards import Corpus
from pipeline.engine.optim_config import MuonConfig
from pipeline.errors import DigestError, InputError
from pipeline.files import MANIFEST, TEMPORARY, file_sha256, read_json, seal, write_json
from pipeline.pretrain_config import CheckpointConfig, PretrainConfig
from tests.checkpoints import WEIGHTS, checkpoint
from tests.conftest import flip_byte


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    for step in (30, 10, 20):
        checkpoint(folder, step)
    return folder


def test_steps_are_sorted_as_numbers(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.steps() == []
    for step in (9, 10**8, 99_999_999, 123_456_789_012):
        checkpoint(run, step)
    assert run.steps() == [9, 99_999_999, 10**8, 123_456_789_012]


def test_unfinished_and_foreign_names_are_not_seen(run: RunFolder) -> None:
    for name in (
        f"{TEMPORARY}step-00000040",
        "step-40",
        "step-0000004x",
        "step-00000040.bak",
        "xstep-00000040",
        "Step-00000040",
        "step-000000030",
        "step-٠٠٠٠٠٠٤٠",
        "step-99999999999999999999",
        "latest",
    ):
        (run.checkpoints / name).mkdir()
    assert run.steps() == [10, 20, 30]


def test_checkpoints_on_a_disk_that_is_not_mounted_are_not_none(run: RunFolder) -> None:
    """Else the run would begin anew, and its metrics be forgotten."""
    assert RunFolder(run.path / "no").steps() == []
    run.checkpoints.rename(run.path / "disk")
    run.checkpoints.symlink_to(run.path / "disk")
    assert run.steps() == [10, 20, 30]
    (run.path / "disk").rename(run.path / "away")
    with pytest.raises(FileNotFoundError):
        run.to_resume("auto")


def test_the_newest_is_taken(run: RunFolder) -> None:
    manifest, broken = run.newest_sound()
    assert manifest is not None
    assert manifest["step"] == 30
    assert broken == []


def test_the_newest_that_is_not_behind_a_step(run: RunFolder) -> None:
    for last, found in ((30, 30), (29, 20), (10, 10)):
        manifest, _ = run.newest_sound(last)
        assert manifest is not None
        assert manifest["step"] == found
    assert run.newest_sound(9) == (None, [])
    manifest, _ = run.newest_sound(30, every=20)
    assert manifest is not None
    assert manifest["step"] == 20


def test_no_checkpoint(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).newest_sound() == (None, [])


def test_broken_ones_are_passed_over_and_reported(run: RunFolder) -> None:
    """One with a flipped byte and one that never got its manifest: the third is used, and both are named."""
    newest, second = run.checkpoint(30), run.checkpoint(20)
    expected = file_sha256(newest / WEIGHTS)
    flip_byte(newest / WEIGHTS, 3)
    (second / MANIFEST).unlink()
    manifest, broken = run.newest_sound()
    assert manifest is not None
    assert manifest["step"] == 10
    assert [str(error) for error in broken] == [
        f"{newest / WEIGHTS}: SHA-256 {file_sha256(newest / WEIGHTS)}, expected {expected}",
        f"{second}: no manifest.json here; expected a finished checkpoint folder",
    ]
    with pytest.raises(DigestError):
        verify_checkpoint(newest)


@pytest.mark.parametrize("damage", ["truncated", "missing", "manifest altered", "manifest torn", "a file", "escaping"])
def test_any_damage_is_passed_over(run: RunFolder, damage: str) -> None:
    folder = run.checkpoint(30)
    manifest = read_json(folder / MANIFEST)
    match damage:
        case "truncated":
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
        case "missing":
            (folder / WEIGHTS).unlink()
        case "manifest altered":
            write_json(folder / MANIFEST, {**manifest, "step": 31})
        case "manifest torn":
            (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:40])
        case "a file":
            folder.rename(run.path / "aside")
            folder.write_bytes(b"")
        case "escaping":
            entry = manifest["files"][WEIGHTS]
            write_json(folder / MANIFEST, seal({**manifest, "files": {f"../step-00000020/{WEIGHTS}": entry}}))
    manifest_found, broken = run.newest_sound()
    assert manifest_found is not None
    assert manifest_found["step"] == 20
    assert len(broken) == 1
    assert str(folder) in str(broken[0])


@pytest.mark.parametrize(("keep", "left"), [(1, [30]), (2, [20, 30]), (3, [10, 20, 30]), (4, [10, 20, 30])])
def test_prune_keeps_the_newest(run: RunFolder, keep: int, left: list[int]) -> None:
    run.prune(CheckpointConfig(every_steps=10, keep_last=keep))
    assert run.steps() == left
    assert sorted(entry.name for entry in run.checkpoints.iterdir()) == [f"step-{step:08d}" for step in left]
    for step in left:
        verify_checkpoint(run.checkpoint(step))


def metrics_of(run: RunFolder) -> list[int]:
    return [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]


@pytest.mark.parametrize("torn", [b"", b'{"event": "train", "st', b"\x00\x00\x00", b'{"event": "tr\xff', b"{}"])
def test_metrics_behind_a_checkpoint_are_forgotten(tmp_path: Path, torn: bytes) -> None:
    """What a killed run wrote last may be anything: half a line, zeros after a power cut."""
    run = RunFolder(tmp_path)
    lines = [json.dumps({"event": "train", "step": step, "text": "é\u2028"}) for step in (1, 2, 3, 4)]
    run.metrics.write_bytes("\n".join(lines).encode() + b"\n" + torn)
    run.forget_metrics_after(2)
    assert metrics_of(run) == [1, 2]
    assert run.metrics.read_bytes().endswith(b"}\n")


def test_metrics_of_a_whole_run_stay(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.forget_metrics_after(3)
    assert not run.metrics.exists()
    text = '{"event": "train", "step": 3}\n{"event": "eval", "step": 3}\n'
    run.metrics.write_text(text)
    run.forget_metrics_after(3)
    assert run.metrics.read_text() == text
    run.forget_metrics_after(0)
    assert run.metrics.read_text() == ""


def test_the_last_steps_that_were_logged(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.last_steps(3) == []
    lines = [{"event": event, "step": step} for step in (1, 2, 3, 4) for event in ("train", "eval")]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line["step"] for line in run.last_steps(3)] == [2, 3, 4]
    assert [line["step"] for line in run.last_steps(9)] == [1, 2, 3, 4]


@pytest.fixture
def ours(pretrain_yaml: Path, corpus: Path) -> dict[str, Any]:
    return stamp(load_config(PretrainConfig, pretrain_yaml), Corpus(corpus))


def test_the_same_provenance_is_accepted_after_its_way_through_json(ours: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", ours)
    check_provenance(read_json(tmp_path / "manifest.json"), ours, tmp_path)
    check_provenance({**ours, "versions": {"torch": "9"}}, ours, tmp_path)  # stamped, but no reason to refuse


@pytest.mark.parametrize("key", ["corpus_digest", "tokenizer_fingerprint"])
def test_another_corpus_or_tokenizer_names_both_sides(ours: dict[str, Any], tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError) as caught:
        check_provenance({**ours, key: "f00d"}, ours, tmp_path)
    assert str(caught.value) == f"{tmp_path}: its {key} is f00d, this corpus has {ours[key]}"


@pytest.mark.parametrize(
    ("section", "key", "theirs"),
    [
        ("optimizer", "learning_rate", 0.5),
        ("batch", "train_batch_size", 9),
        ("model", "hidden_size", 4),
        (None, "seed", 7),
    ],
)
def test_another_recipe_names_key_and_both_sides(
    ours: dict[str, Any], tmp_path: Path, section: str | None, key: str, theirs: Any
) -> None:
    recipe = json.loads(json.dumps(ours["recipe"]))
    part = recipe[section] if section else recipe
    mine, part[key] = part[key], theirs
    with pytest.raises(InputError) as caught:
        check_provenance({**ours, "recipe": recipe}, ours, tmp_path)
    name = f"{section}.{key}" if section else key
    assert str(caught.value) == f"{tmp_path}: was trained with {name} = {theirs}, the configuration says {mine}"


def test_another_optimizer_is_named_by_its_type(ours: dict[str, Any], tmp_path: Path) -> None:
    muon = MuonConfig(learning_rate=0.5).model_dump(mode="json")
    with pytest.raises(InputError, match=r"was trained with optimizer\.type = muon, the configuration says adamw$"):
        check_provenance({**ours, "recipe": {**ours["recipe"], "optimizer": muon}}, ours, tmp_path)


def test_a_key_that_only_one_side_has_is_a_difference(ours: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**ours["recipe"], "curriculum": "yes"}
    with pytest.raises(InputError, match="curriculum = yes, the configuration says None"):
        check_provenance({**ours, "recipe": recipe}, ours, tmp_path)
    with pytest.raises(InputError, match="curriculum = None, the configuration says yes"):
        check_provenance(ours, {**ours, "recipe": recipe}, tmp_path)


def test_versions_are_stamped(ours: dict[str, Any]) -> None:
    assert set(ours["versions"]) == {"kilobatch", "torch", "deepspeed", "transformers", "safetensors"}
    assert all(ours["versions"].values())


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "file"])
def test_what_was_set_aside_before_is_replaced(run: RunFolder, tmp_path: Path, kind: str) -> None:
    """Also where it was no folder: a link that was passed over, say."""
    elsewhere, aside = tmp_path / "elsewhere", run.checkpoints / "broken-step-00000030"
    run.checkpoint(30).rename(elsewhere)
    match kind:
        case "folder":
            checkpoint(run, 30)
        case "link":
            run.checkpoint(30).symlink_to(elsewhere)
        case "dangling link":
            run.checkpoint(30).symlink_to(tmp_path / "nothing")
        case "file":
            run.checkpoint(30).write_text("")
    run.set_aside_after(20)
    assert run.steps() == [10, 20]
    checkpoint(run, 30)
    run.set_aside_after(20)
    assert run.steps() == [10, 20]
    assert not aside.is_symlink()
    assert (aside / MANIFEST).is_file()
    assert (elsewhere / MANIFEST).is_file()
