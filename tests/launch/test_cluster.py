"""`kilobatch launch`: the exact command, hosts that are not fit, and nothing that a shell would run."""

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from launch.cluster import Cluster, Options, launch
from launch.hostfile import Host, read_hostfile
from launch.preflight import Fit, _judge, preflight
from launch.remote import Ssh, Unanswered
from pipeline.configfile import load_config
from pipeline.errors import InputError, RunError
from pipeline.pretrain_config import PretrainConfig
from tests.cluster import ADDRESSES, Loopback, missing

ROOT = Path(__file__).parents[2]
TWO = "node-1 slots=2\nnode-2 slots=2\n"


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    path = tmp_path / "hostfile"
    path.write_text(TWO)
    return path


def kilobatch(folder: Path, *words: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "launch.cli", "launch", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_print_shows_the_command_and_contacts_nobody(pretrain_yaml: Path, hostfile: Path, tmp_path: Path) -> None:
    secrets = {"MLFLOW_TRACKING_TOKEN": "hunter2", "NCCL_DEBUG": "WARN", "GLOO_SOCKET_IFNAME": "eth7"}
    port = ["--master-port", "29511", "--ssh-port", "2222"]
    done = kilobatch(tmp_path, pretrain_yaml, "--hostfile", hostfile, "--print", *port, **secrets, PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "hunter2" not in done.stdout
    *comments, command = done.stdout.splitlines()
    assert [line.removeprefix("#   ") for line in comments[1:-1]] == TWO.splitlines()
    assert {"GLOO_SOCKET_IFNAME", "KINETO_LOG_LEVEL", "OMP_NUM_THREADS"} <= set(comments[-1].split())
    variables = dict(word.split("=", 1) for word in shlex.split(command)[:2])
    assert variables["DS_ENV_FILE"] == str(tmp_path / "run" / "log" / "environment")
    assert "-p 2222 " in variables["PDSH_SSH_ARGS_APPEND"]
    words = shlex.split(command)[2:]
    assert words[0].endswith("/deepspeed")
    assert words[words.index("--hostfile") + 1] == str(tmp_path / "run" / "log" / "hostfile")
    assert words[words.index("--master_addr") + 1] == "node-1"
    assert words[words.index("--master_port") + 1] == "29511"
    assert words[-2:] == ["launch.rank", str(tmp_path / "run" / "config.yaml")]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("settings", "options", "variables", "part"), [
    (["output=x$(touch${IFS}pwned)"], {}, {}, "output: '"),
    (['output="it\\"s"'], {}, {}, "which a remote shell may take for more than a character"),
    (["output=two words"], {}, {}, "has ' ', which a remote shell"),
    ([], {"master_addr": "-oProxyCommand=touch pwned"}, {}, "--master-addr: '-oProxyCommand=touch pwned': "),
    ([], {"min_hosts": 3}, {}, "--min-hosts: 3, but "),
    ([], {}, {"NCCL_IB_HCA": "$(touch pwned)"}, "environment: the value of NCCL_IB_HCA has '$'"),
    ([], {}, {"PYTHONPATH": "/x:`touch pwned`"}, "environment: the value of PYTHONPATH has '`'"),
    ([], {}, {"DS_ENV_FILE": "wrong_env"}, "wrong_env:2: the value of B has '$'"),
    (["batch.train_batch_size=6"], {}, {}, "batch.train_batch_size: 6 is not a multiple of"),
])  # fmt: skip
def test_what_is_wrong_is_one_line_and_nothing_is_executed(
    pretrain_yaml: Path,
    hostfile: Path,
    tmp_path: Path,
    settings: list[str],
    options: dict[str, Any],
    variables: dict[str, str],
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong_env").write_text("A=1\nB=$(touch pwned)\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as raised:
        launch(load_config(PretrainConfig, pretrain_yaml, settings), Options(hostfile, **options), show=True)
    assert part in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.rglob("pwned"))


def test_hosts_have_as_many_slots_each(pretrain_yaml: Path, hostfile: Path) -> None:
    hostfile.write_text("node-1 slots=8\nnode-2 slots=4\n")
    with pytest.raises(InputError, match="hosts with 4, 8 slots; the same number on all is accepted"):
        Cluster(load_config(PretrainConfig, pretrain_yaml), Options(hostfile))


def cluster_of_three(
    folder: Path, config: Path, monkeypatch: pytest.MonkeyPatch, *settings: str
) -> tuple[Cluster, list[str]]:
    """Three hosts of two slots, and the names of those that answer, which a test may change."""
    hostfile, answering = folder / "three", ["a", "b", "c"]
    hostfile.write_text("a slots=2\nb slots=2\nc slots=2\n")

    def preflight(ssh: Ssh, hosts: list[Host], *_: object, end: bool, **__: object) -> list[Fit]:
        assert end
        return [Fit(host, 0, 8, 4000 + n) for n, host in enumerate(hosts) if host.name in answering]

    monkeypatch.setattr("launch.cluster.preflight", preflight)
    cluster = Cluster(load_config(PretrainConfig, config, settings), Options(hostfile))
    cluster.run.log.mkdir(parents=True)
    return cluster, answering


def test_each_start_is_on_the_hosts_that_are_there_and_the_batch_stays(
    pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    settings = ["batch.train_batch_size=24", "resume=never"]
    cluster, answering = cluster_of_three(tmp_path, pretrain_yaml, monkeypatch, *settings)

    def start(made: int) -> tuple[int, str, str, str]:
        made_ = cluster.start(made)
        words = made_.command
        chosen = [words[words.index(name) + 1] for name in ("--master_addr", "--master_port")]
        assert made_.environment.get("DS_ACCELERATOR") == "cpu"
        assert "hunter2" not in str(made_)
        return made_.world_size, cluster.hostfile.read_text(), ":".join(chosen), made_.said

    assert start(0) == (6, "a slots=2\nb slots=2\nc slots=2\n", "a:4000", "")
    assert load_config(PretrainConfig, cluster.run.config).resume == "never"
    answering.remove("a")
    size, hostfile, master, said = start(1)
    assert (size, hostfile, master) == (4, "b slots=2\nc slots=2\n", "b:4001")
    assert said.startswith(
        "4 of 6 ranks, on b × 2, c × 2: 24 sequences a step = 1 a micro-batch × 6 accumulated × 4 rank"
    )
    assert load_config(PretrainConfig, cluster.run.config).resume == "auto"
    answering.insert(0, "a")  # it is back
    assert start(2)[0] == 6
    assert "OMP_NUM_THREADS=4\n" in cluster.exported.read_text()
    assert "hunter2" not in cluster.exported.read_text()
    assert cluster.exported.stat().st_mode & 0o777 == 0o600


def test_a_host_that_replaces_another_is_taken_in_at_a_restart(
    pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, answering = cluster_of_three(tmp_path, pretrain_yaml, monkeypatch, "batch.train_batch_size=24")
    cluster.options = replace(cluster.options, master_addr="10.0.0.1")

    def start(made: int) -> tuple[str, str]:
        words = cluster.start(made).command
        return cluster.hostfile.read_text(), words[words.index("--master_addr") + 1]

    first = ("a slots=2\nb slots=2\nc slots=2\n", "10.0.0.1")
    assert start(0) == first
    answering.append("d")
    (tmp_path / "three").write_text("d slots=2\nc slots=2\na slots=2\n")
    assert start(1) == ("d slots=2\nc slots=2\na slots=2\n", "d")
    (tmp_path / "three").write_text("d slots=2\nc slots=two\n")  # somebody is at it
    assert start(2) == ("d slots=2\nc slots=2\na slots=2\n", "d")
    assert "three:2: found 'slots=two' behind 'c'" in capsys.readouterr().err
    (tmp_path / "three").write_text("".join(f"{name} slots=2\n" for name in "abc"))
    assert start(3) == first


def test_too_few_hosts_are_one_line(pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, answering = cluster_of_three(tmp_path, pretrain_yaml, monkeypatch, "batch.train_batch_size=24")
    answering.remove("b")
    with pytest.raises(RunError, match=r"^2 of 3 host\(s\) are fit, 3 are needed; see the lines above$"):
        cluster.start(0)
    answering.clear()
    with pytest.raises(RunError, match=r"^0 of 3 host\(s\) are fit, 1 are needed"):
        cluster.start(1)


SSH = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
touch "asked-$2"
for host in a b c; do until [ -e "asked-$host" ]; do sleep 0.05; done; done
[ "$2" = b ] || echo 'kilobatch-host: {"reached": '"$(cat ranks)"'}'
"""


def test_all_hosts_are_asked_to_stop_at_once(
    pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of these answers when all were asked; one is out of order."""
    cluster, _ = cluster_of_three(tmp_path, pretrain_yaml, monkeypatch)
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "ssh").write_text(SSH)
    (tmp_path / "programs" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    for ranks in (2, 0):
        (tmp_path / "ranks").write_text(str(ranks))
        assert cluster.signal(cluster.hosts, Signals.SIGUSR1) == (ranks > 0)
        assert capsys.readouterr().err == "kilobatch: host b: ssh ended with 0\n"


def test_who_does_not_know_the_first_host_is_left_out_unless_that_one_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A name server may forget a lost host's name."""
    hosts = [Host("a", 1), Host("b", 1)]
    first = {"problems": [], "unknown": "", "ended": 0, "gpus": 0, "cores": 8, "port": 4000}
    second = {**first, "unknown": "does not know the name 'a'"}
    assert [fit.host.name for fit in _judge(hosts, [first, second], [True, True])] == ["a"]
    assert "host b: left out: does not know the name 'a'" in capsys.readouterr().out
    lost = Unanswered(hosts[0], "no answer within 90 s")
    assert [fit.host.name for fit in _judge(hosts, [lost, second], [False, True])] == ["b"]


def test_a_dry_run_shows_the_plan_of_the_hosts_that_are_fit_and_ends_nothing(
    pretrain_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, _ = cluster_of_three(tmp_path, pretrain_yaml, monkeypatch, "batch.train_batch_size=24")

    def preflight(ssh: Ssh, hosts: list[Host], *_: object, end: bool, **__: object) -> list[Fit]:
        assert not end
        return [Fit(host, 0, 8, 4000) for host in hosts[1:]]

    monkeypatch.setattr("launch.cluster.preflight", preflight)
    monkeypatch.setattr("launch.cluster.check_programs", lambda: None)
    assert launch(cluster.config, Options(tmp_path / "three", min_hosts=2), dry_run=True) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 of 6 ranks, on b × 2, c × 2: ")
    assert "4 on 2 host(s)" in said


def test_two_commands_do_not_train_in_one_folder(
    pretrain_yaml: Path, hostfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock that other machines see: the one on the folder is of this machine alone."""
    (tmp_path / "programs").mkdir()
    for program in ("pdsh", "ssh"):
        (tmp_path / "programs" / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    (tmp_path / "run" / "log").mkdir(parents=True)
    with (tmp_path / "run" / "log" / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="a run on another machine is training here; wait for it"):
            launch(load_config(PretrainConfig, pretrain_yaml), Options(hostfile))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="pdsh: no such program here"):
        launch(load_config(PretrainConfig, pretrain_yaml), Options(hostfile))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    if reason := missing():
        pytest.skip(reason)
    loopback = Loopback(tmp_path_factory.mktemp("hosts"))
    yield loopback
    loopback.close()


def test_a_host_that_is_fit_and_one_that_does_not_answer(
    hosts: Loopback, pretrain_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(PretrainConfig, pretrain_yaml)
    ssh = Ssh.of({**hosts.environment(), "PYTHONPATH": str(ROOT)}, None)
    found = read_hostfile(hosts.hostfile())
    assert [fit.host.name for fit in preflight(ssh, found, config, ADDRESSES[0], cpu=True, end=False)] == list(
        ADDRESSES
    )
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ready: ")[0] for line in said] == [f"host {address}" for address in ADDRESSES]
    assert all(line.endswith(" core(s), no GPU, 1 slot(s)") for line in said)
    assert list((config.output / "log").iterdir()) == []
    hosts.stop(ADDRESSES[1])
    assert [fit.host.name for fit in preflight(ssh, found, config, ADDRESSES[0], cpu=True, end=False)] == [ADDRESSES[0]]
    assert hosts.start(ADDRESSES[1])
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"host {ADDRESSES[1]}: left out: not reachable by ssh: ")
    assert "Connection refused" in said[1]
