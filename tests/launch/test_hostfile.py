"""Hostfiles: what is accepted, the one line that each mistake is, and the largest world size of the hosts left."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.hostfile import MOST_SLOTS, Host, pick, read_hostfile, render, wrong_name
from pipeline.errors import InputError

ROOT = Path(__file__).parents[2]
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def write(folder: Path, text: str) -> Path:
    path = folder / "hostfile"
    path.write_text(text, encoding="utf-8")
    return path


def test_hosts_comments_and_blank_lines_are_read_in_order(tmp_path: Path) -> None:
    text = "# the cluster\r\n\n  node-2\tslots=8  # rack 3\nnode-1.example.org slots=4\n"
    text += "10.0.0.7 slots=08\nworker_0 slots=1"
    hosts = read_hostfile(write(tmp_path, text))
    assert hosts == [Host("node-2", 8), Host("node-1.example.org", 4), Host("10.0.0.7", 8), Host("worker_0", 1)]
    assert read_hostfile(write(tmp_path, render(hosts))) == hosts


def test_the_example_is_a_hostfile() -> None:
    assert [host.slots for host in read_hostfile(ROOT / "configs" / "cluster" / "hostfile")] == [8, 8]


@pytest.mark.parametrize(("line", "parts"), [
    ("node-1", ["found nothing behind 'node-1'", "'NAME slots=N'"]),
    ("node-1 8", ["found '8' behind 'node-1'", "slots=1 to slots="]),
    ("node-1 slots=0", ["found 'slots=0'", "slots=1 to slots="]),
    ("node-1 slots=-1", ["found 'slots=-1'"]),
    ("node-1 slots=2.5", ["found 'slots=2.5'"]),
    ("node-1 slots=٣", ["found 'slots=٣'"]),
    (f"node-1 slots={MOST_SLOTS + 1}", [f"slots=1 to slots={MOST_SLOTS}"]),
    ("node-1 slots=99999999999999999999", ["slots=1 to"]),
    ("node-1 slots=8 max_slots=8", ["found 'slots=8 max_slots=8' behind 'node-1'"]),
    ("-oProxyCommand=touch${IFS}x slots=8", ["host '-oProxyCommand=touch${IFS}x'", "accepted are host names"]),
    ("-w slots=8", ["host '-w'"]),
    ("$(touch${IFS}x) slots=8", ["accepted are host names"]),
    ("`id` slots=8", ["accepted are host names"]),
    ("a;b slots=8", ["accepted are host names"]),
    ("a,b slots=8", ["accepted are host names"]),
    ("node[1-9] slots=8", ["accepted are host names"]),
    ("^file slots=8", ["accepted are host names"]),
    ("/node/ slots=8", ["accepted are host names"]),
    ("root@node-1 slots=8", ["set the user in ssh's configuration"]),
    ("node-1:22 slots=8", ["no IPv6 address and no port"]),
    ("exec:node-1 slots=8", ["no IPv6 address and no port"]),
    ("::1 slots=8", ["no IPv6 address"]),
    ("10.0.0.256 slots=8", ["not an IPv4 address"]),
    ("10.0.0 slots=8", ["not an IPv4 address"]),
    ("a..b slots=8", ["accepted are host names"]),
    ("node-1. slots=8", ["accepted are host names"]),
    ("a" * 64 + " slots=8", ["accepted are host names"]),
    ("NODE-0 slots=8", ["host 'NODE-0' is on line 1 already"]),
    ("node\x00 slots=8", ["accepted are host names"]),
    ("nöde slots=8", ["accepted are host names"]),
    ("node-1#8 slots=8", ["accepted are host names"]),
])  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, line: str, parts: list[str]) -> None:
    path = write(tmp_path, f"node-0 slots=8\n\n{line}\n")
    with pytest.raises(InputError) as raised:
        read_hostfile(path)
    assert str(raised.value).startswith(f"{path}:3: ")
    assert "\n" not in str(raised.value)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# node-1 slots=8\n"])
def test_a_file_without_hosts_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no host in it"):
        read_hostfile(write(tmp_path, text))


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_hostfile(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        read_hostfile(tmp_path)
    (tmp_path / "latin").write_bytes(b"n\xf6de slots=1\n")
    with pytest.raises(InputError, match="not UTF-8 at byte 1"):
        read_hostfile(tmp_path / "latin")


@given(st.text(min_size=1, max_size=80))
def test_no_name_with_another_character_is_accepted(name: str) -> None:
    if wrong_name(name) is None:
        assert set(name) <= PLAIN
        assert not name.startswith(("-", "."))


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 64))
def test_the_largest_world_size_with_equal_slots_is_picked(slots: list[int], micro_batches: int) -> None:
    hosts = [Host(f"h{number}", count) for number, count in enumerate(slots)]
    picked = pick(hosts, micro_batches)
    sizes = [
        number * each
        for each in range(1, 10)
        for number in range(1, len(hosts) + 1)
        if sum(host.slots >= each for host in hosts) >= number and micro_batches % (number * each) == 0
    ]
    assert sum(host.slots for host in picked) == max(sizes, default=0)
    assert len({host.slots for host in picked}) <= 1
    available = {host.name: host.slots for host in hosts}
    assert all(host.slots <= available[host.name] for host in picked)
    assert [host.name for host in picked] == [host.name for host in hosts if host.name in {h.name for h in picked}]


def test_whole_hosts_go_before_parts_of_more() -> None:
    hosts = [Host("a", 8), Host("b", 8), Host("c", 8)]
    assert pick(hosts, 16) == hosts[:2]
    assert pick(hosts, 24) == hosts
    assert pick(hosts, 9) == [Host(host.name, 3) for host in hosts]
