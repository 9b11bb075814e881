"""What reaches a remote shell means nothing to it: compared with what a real shell makes of it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.plain import check_plain, check_value, inherited, read_variables
from pipeline.errors import InputError

ODD = [
    "$(touch",
    "x)",
    "`id`",
    "\"'",
    "\\",
    ";",
    "&",
    "|",
    "<",
    ">",
    "*",
    "?",
    "[a]",
    "{b,c}",
    "!",
    "#",
    "~",
    "%h",
    "%n",
    "\n",
    "\t",
    "é",
    "ß",
]


def complaint(function: Callable[..., object], *arguments: str) -> str:
    """The line of the InputError that a call ends in; empty if it ends in none."""
    try:
        function(*arguments)
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([*ODD, "run", "/", ".", "-", "="]), min_size=1, max_size=5).map(lambda p: "/" + "".join(p))
)
def test_a_path_that_is_accepted_is_one_word_of_a_shell_and_itself(path: str) -> None:
    said = complaint(check_plain, "output", path)
    assert "\n" not in said
    if not said:
        done = subprocess.run(["sh", "-c", f"printf %s {path}"], capture_output=True, text=True, check=True)
        assert done.stdout == path
        assert "%" not in path


@pytest.mark.parametrize("path", ["/$(touch x)", "/`id`", "/a b", "/a'b", '/a"b', "/a;b", "/a\\b", "/%n", "/a\n"])
def test_paths_that_a_shell_would_read_are_refused(path: str) -> None:
    assert complaint(check_plain, "output", path).startswith(f"output: {path!r} has ")


@pytest.mark.parametrize("path", ["/scratch/me/run-1.5_b", "/data/größe", "/a=b,c+d@e:f"])
def test_ordinary_paths_are_accepted(path: str) -> None:
    assert check_plain("output", path) == path


@settings(max_examples=30)
@given(st.text(st.sampled_from("ab $`\\\"'%!;&|<>*?[]{}~#=:,\n"), max_size=12))
def test_a_value_that_is_accepted_stands_in_double_quotes_as_it_is(value: str) -> None:
    if complaint(check_value, "environment", "NCCL_X", value):
        assert set(value) & set('$`\\"%\n')
        return
    done = subprocess.run(["sh", "-c", f'printf %s "{value}"'], capture_output=True, text=True, check=True)
    assert done.stdout == value


def test_only_named_variables_travel_and_a_dangerous_one_is_refused_without_its_value() -> None:
    environment = {
        "NCCL_DEBUG": "WARN",
        "GLOO_SOCKET_IFNAME": "lo",
        "DS_ACCELERATOR": "cpu",
        "MLFLOW_TRACKING_TOKEN": "$(secret)",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/root",
    }
    assert inherited(environment) == {"GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}
    for name in ("NCCL_IB_HCA", "PYTHONPATH", "GLOO_SOCKET_IFNAME"):
        with pytest.raises(InputError, match=f"the value of {name} has '\\$'") as raised:
            inherited({name: "secret$(touch x)"})
        assert "secret" not in str(raised.value)


def test_a_deepspeed_env_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / ".deepspeed_env"
    path.write_text("# network\n\nNCCL_IB_HCA=mlx5_0,mlx5_1\nNCCL_DEBUG=INFO WARN\n")
    assert read_variables(path) == {"NCCL_IB_HCA": "mlx5_0,mlx5_1", "NCCL_DEBUG": "INFO WARN"}
    for line, part in (
        ("NCCL_DEBUG", "found 'NCCL_DEBUG'; accepted is NAME=VALUE"),
        ("A=1; touch x=2\nB=$(touch x)", "the value of B has '$'"),
        ("A;touch x=2", "'A;touch x' is no name of a variable"),
        ("export A=2", "'export A' is no name"),
    ):
        path.write_text(f"GOOD=1\n{line}\n")
        with pytest.raises(InputError) as raised:
            read_variables(path)
        assert str(raised.value).startswith(f"{path}:{2 + line.count(chr(10))}: ")
        assert part in str(raised.value)
