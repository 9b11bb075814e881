"""The command line as a user meets it: real processes, exit codes, and one line for every mistake."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from launch import cli
from pipeline.files import file_sha256
from tests.conftest import flip_byte

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def kilobatch(tmp_path: Path) -> Run:
    """Run `kilobatch …` in an empty folder, as a process of its own."""

    def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "launch.cli", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


def complaint(done: "subprocess.CompletedProcess[str]", exit_code: int) -> str:
    """The single line that a failed command wrote."""
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("kilobatch: ")
    return done.stderr.removeprefix("kilobatch: ").rstrip("\n")


def usage(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `kilobatch …`, run in this process: for what ends before a command is imported."""
    monkeypatch.setattr(sys, "argv", ["kilobatch", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return 0 if ended.value.code is None else int(ended.value.code)


def test_help_is_quick_because_it_loads_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from launch.cli import main; sys.argv = ['kilobatch', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'apache_beam', 'deepspeed', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit('loaded ' + ' '.join(heavy) if heavy else 0)"
    )
    for words in (["--help"], ["pretrain", "--help"], ["corpus", "verify", "--help"]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Usage: kilobatch" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "preprocess",
        "pretrain",
        "launch",
        "export",
        "evaluate",
        "finetune",
        "corpus verify",
        "corpus stats",
        "corpus show",
        "corpus export",
        "report",
        "checkpoint list",
        "checkpoint verify",
        "checkpoint prune",
    ],
)
def test_every_command_shows_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage(monkeypatch, *command.split(), "--help") == 0
    assert f"Example: kilobatch {command} " in " ".join(capsys.readouterr().out.split())


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert usage(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"kilobatch {version('kilobatch')}\n"


@pytest.mark.parametrize("words", [[], ["corpus"], ["checkpoint"]])
def test_without_a_command_there_is_help(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert f"Usage: {' '.join(['kilobatch', *words])}" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pretrian", "x"], ["No such command 'pretrian'", "'pretrain'", "see 'kilobatch --help'"]),
        (["nonsense"], ["No such command 'nonsense'", "see 'kilobatch --help'"]),
        (["corpus", "verfy", "x"], ["No such command 'verfy'", "'verify'", "see 'kilobatch corpus --help'"]),
        (["pretrain", "x", "--dryrun"], ["No such option: --dryrun", "--dry-run", "see 'kilobatch pretrain --help'"]),
        (["pretrain", "x", "-z"], ["No such option: -z"]),
        (["pretrain", "x", "--dry-run=yes"], ["Option '--dry-run' does not take a value"]),
        (["pretrain"], ["Missing argument 'CONFIG'", "see 'kilobatch pretrain --help'"]),
        (["export", "run"], ["Missing argument 'MODEL'"]),
        (["corpus", "verify", "a", "b\nc"], ["unexpected extra argument"]),
        (["--verbose"], ["No such option: --verbose", "see 'kilobatch --help'"]),
    ],
)  # fmt: skip
def test_usage_mistakes_are_one_line(
    words: list[str], parts: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("kilobatch: ")
    assert shown.err.endswith("\n")
    for part in parts:
        assert part in shown.err


def test_a_usage_mistake_in_a_real_process(kilobatch: Run) -> None:
    assert complaint(kilobatch("pretrian", "x"), 2).startswith("No such command 'pretrian'")


def test_pretrain_input_mistakes(kilobatch: Run, pretrain_yaml: Path, tmp_path: Path) -> None:
    """Each is found before any process is started, and nothing is written."""
    text = pretrain_yaml.read_text()
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text(text.replace("train_batch_size", "train_batchsize"))
    clash, stage = tmp_path / "clash.json", tmp_path / "stage.json"
    clash.write_text('{"train_batch_size": 8}')
    stage.write_text('{"zero_optimization": {"stage": 7}}')
    mistakes: list[tuple[list[str | Path], str]] = [
        (["nowhere.yaml"], "nowhere.yaml: no such file; expected a YAML configuration"),
        ([misspelt], f"{misspelt}:10: unknown key 'batch.train_batchsize'; did you mean 'train_batch_size'?"),
        ([pretrain_yaml, "batch.train_micro_batch_size_per_gpu=3"], "batch.train_batch_size: 8 is not a multiple of "),
        (
            [pretrain_yaml, f"deepspeed={clash}"],
            f"{clash}: 'train_batch_size' belongs to the pretraining configuration",
        ),
        ([pretrain_yaml, f"deepspeed={stage}"], f"{stage}: zero_optimization.stage: found 7; accepted: 0, 1, 2, 3"),
        ([pretrain_yaml, "corpus=nowhere"], "nowhere: no manifest.json here; expected a finished corpus folder"),
    ]
    for words, message in mistakes:
        assert complaint(kilobatch("pretrain", *words), 2).startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_put_into_a_corpus(kilobatch: Run, pretrain_yaml: Path, corpus: Path) -> None:
    refused = kilobatch("pretrain", pretrain_yaml, "--dry-run", f"output={corpus}")
    assert complaint(refused, 2).startswith(f"output: {corpus} is a finished folder of something else")


def test_dry_run_starts_nothing(kilobatch: Run, pretrain_yaml: Path, tmp_path: Path) -> None:
    done = kilobatch("pretrain", pretrain_yaml, "optimizer.learning_rate=1e-4", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 sequences a step" in done.stdout
    assert not (tmp_path / "run").exists()


def test_preprocess_takes_the_runner_options_apart(kilobatch: Run, tmp_path: Path) -> None:
    """An override before `--` and Beam's options after it, both noticed: the override is the first mistake."""
    config = tmp_path / "corpus.yaml"
    config.write_text("output: out\nsources: [{type: text, paths: [nowhere.txt]}]\n")
    done = kilobatch("preprocess", config, "sed=1", "--", "--runner=FnApiRunner")
    assert complaint(done, 2) == "override 'sed=1': unknown key 'sed'; did you mean 'seed'?"


def test_corpus_verify(kilobatch: Run, corpus: Path) -> None:
    sound = kilobatch("corpus", "verify", corpus)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith(f"{corpus}: 8 files as their digests say; corpus digest ")
    path = corpus / "train-00001-of-00002.tokens"
    expected = file_sha256(path)
    flip_byte(path, 5)
    assert (
        complaint(kilobatch("corpus", "verify", corpus), 3)
        == f"{path}: SHA-256 {file_sha256(path)}, expected {expected}"
    )
    (corpus / "manifest.json").unlink()
    assert complaint(kilobatch("corpus", "verify", corpus), 2).startswith(f"{corpus}: no manifest.json here")


@pytest.mark.parametrize("words", [["corpus", "verify"], ["corpus", "stats"], ["corpus", "--help"]])
def test_a_reader_that_has_enough_is_no_mistake(corpus: Path, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    given = [] if words[-1] == "--help" else [str(corpus)]
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", *words, *given],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_shortened_shard_stops_pretraining_with_3(kilobatch: Run, pretrain_yaml: Path, corpus: Path) -> None:
    path = corpus / "valid-00000-of-00002.tokens"
    path.write_bytes(path.read_bytes()[:-2])
    assert complaint(kilobatch("pretrain", pretrain_yaml), 3).startswith(f"{path}: ")


@pytest.mark.parametrize("code", [0, 1, 75])
def test_the_exit_code_of_a_run_is_that_of_the_command(
    code: int, pretrain_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch import local

    monkeypatch.setattr(local, "pretrain", lambda config, dry_run, profile: code)
    assert usage(monkeypatch, "pretrain", str(pretrain_yaml)) == code


def test_a_defect_keeps_its_traceback(pretrain_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValueError of ours is no mistake of the user's."""
    from launch import local

    def broken(config: object, dry_run: bool, profile: bool) -> int:
        raise ValueError("a defect")

    monkeypatch.setattr(local, "pretrain", broken)
    monkeypatch.setattr(sys, "argv", ["kilobatch", "pretrain", str(pretrain_yaml)])
    with pytest.raises(ValueError, match="a defect"):
        cli.main()


def test_a_message_stays_on_one_line_whatever_a_file_is_called(kilobatch: Run, tmp_path: Path) -> None:
    assert complaint(kilobatch("corpus", "verify", "two\nlines"), 2).startswith("two lines: no manifest.json here")
