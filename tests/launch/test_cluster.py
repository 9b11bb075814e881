"""`kilobatch launch`: the exact command, hosts that are not fit, and nothing that a shell would run."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.cluster import Cluster, Options, launch
from launch.hostfile import read_hostfile
from launch.preflight import preflight
from launch.remote import Ssh
from pipeline.configfile import load_config
from pipeline.errors import InputError
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
    assert comments[-1].endswith(": DS_ACCELERATOR GLOO_SOCKET_IFNAME HF_HUB_OFFLINE KINETO_LOG_LEVEL OMP_NUM_THREADS")
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
    assert [fit.host.name for fit in preflight(ssh, found, config, ADDRESSES[0], cpu=True)] == list(ADDRESSES)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].rpartition(" ")[0] for line in said] == [
        f"host {a}: ready: {os.cpu_count()}" for a in ADDRESSES
    ]
    assert list((config.output / "log").iterdir()) == []
    hosts.stop(ADDRESSES[1])
    assert [fit.host.name for fit in preflight(ssh, found, config, ADDRESSES[0], cpu=True)] == [ADDRESSES[0]]
    assert hosts.start(ADDRESSES[1])
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"host {ADDRESSES[1]}: left out: not reachable by ssh: ")
    assert "Connection refused" in said[1]
