"""Hosts for tests: private sshd's on loopback addresses, with keys of their own. Nothing else is touched."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

ADDRESSES = ("127.0.0.2", "127.0.0.3")
SERVER = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 100
"""
CLIENT = """\
Host *
  Port {port}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


def missing() -> str | None:
    """Why there can be no hosts on this machine; None if there can."""
    lacking = [program for program in ("sshd", "pdsh", "ssh", "ssh-keygen") if _program(program) is None]
    if lacking:
        return f"no {', no '.join(lacking)} here"
    for address in ADDRESSES:
        with socket.socket() as listener:
            try:
                listener.bind((address, 0))
            except OSError:
                return f"no address {address} here"
    return None


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


class Loopback:
    """Two hosts of this machine, each an sshd of its own; end them by `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sshd = _program("sshd")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where root's sshd locks itself up
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        for _ in range(20):  # a port may be taken by another process in between
            self.port = _free_port()
            if all([self.start(address) for address in ADDRESSES]):
                break
            self.close()
        else:
            pytest.fail("no sshd could be started")
        (folder / "ssh_config").write_text(CLIENT.format(port=self.port, folder=folder))
        command = ["ssh", "-F", str(folder / "ssh_config"), "-o", "BatchMode=yes", ADDRESSES[0], "true"]
        login = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if login.returncode != 0:  # an account without a shell, or locked
            self.close()
            pytest.skip(f"no login by ssh here: {login.stderr.strip() or login.returncode}")

    def start(self, address: str) -> bool:
        """Let a host answer (again); whether it does."""
        config = self.folder / f"sshd_config-{address}"
        config.write_text(SERVER.format(port=self.port, address=address, folder=self.folder))
        with (self.folder / f"log-{address}").open("ab") as log:
            server = subprocess.Popen([str(self.sshd), "-D", "-e", "-f", str(config)], stderr=log)
        self.servers[address] = server
        deadline = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < deadline:
            try:
                with socket.create_connection((address, self.port), timeout=10) as connection:
                    return connection.recv(4) == b"SSH-"
            except OSError:
                time.sleep(0.02)
        return False

    def stop(self, address: str) -> None:
        """No new connection to this host; the old ones stay."""
        server = self.servers.pop(address)
        server.kill()
        server.wait()

    def close(self) -> None:
        for address in list(self.servers):
            self.stop(address)

    def hostfile(self, slots: int = 1) -> Path:
        path = self.folder / "hostfile"
        path.write_text("".join(f"{address} slots={slots}\n" for address in ADDRESSES))
        return path

    def environment(self) -> dict[str, str]:
        """For a command that is to reach the hosts."""
        ssh = f"-F {self.folder / 'ssh_config'}"
        return {"PDSH_SSH_ARGS_APPEND": ssh, "GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((ADDRESSES[0], 0))
        return int(listener.getsockname()[1])
