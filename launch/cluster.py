"""`kilobatch launch`: one run on many hosts, by the DeepSpeed launcher over pdsh and ssh.

A start is a hostfile and a file of variables in RUN/log, and the command

    deepspeed --hostfile RUN/log/hostfile --force_multi --master_addr … --module launch.rank RUN/config.yaml

Before each, the hostfile is read and the hosts are asked again (`launch.preflight`); those that are not fit are left
out, those that came back or are new are taken in, and the batch is divided over as many as it can be: the effective
batch never changes.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from launch import plan
from launch.attempt import Elsewhere, Start
from launch.host import RANK
from launch.hostfile import Host, pick, read_hostfile, render, wrong_name
from launch.local import is_done, locked, steps_done
from launch.newest import Newest
from launch.plain import WITHHELD, check_plain, inherited, read_variables
from launch.preflight import Fit, preflight
from launch.remote import SSH_ARGUMENTS, Ssh, Unanswered
from launch.supervise import NotNow, Run, supervise
from pipeline.checkpoints.run_folder import RunFolder
from pipeline.configfile import dump_config
from pipeline.errors import InputError
from pipeline.files import write_bytes
from pipeline.pretrain_config import PretrainConfig

PORT = 29500  # DeepSpeed's
VARIABLES = "DS_ENV_FILE"  # names the file from which DeepSpeed reads what to export


@dataclass(frozen=True)
class Options:
    """What the command line says of hosts.

    Args:
        master_addr: of the first host, as the others reach it; None: its name in the hostfile.
        master_port: None: a free one, at each start.
        min_hosts: fewer are no run; 0: all at the first start, one at a restart.
    """

    hostfile: Path
    master_addr: str | None = None
    master_port: int | None = None
    ssh_port: int | None = None
    preflight: bool = True
    min_hosts: int = 0


class Cluster:
    """The hosts of one run, and the command of each of its starts.

    Raises:
        InputError: a hostfile, name, path or variable that is wrong.
    """

    def __init__(self, config: PretrainConfig, options: Options, environment: Mapping[str, str] | None = None) -> None:
        self.config, self.options = config, options
        self.environment = dict(os.environ if environment is None else environment)
        self.hosts = self._read_hosts()
        self.first = self.hosts[0].name
        if options.min_hosts > len(self.hosts):
            raise InputError(f"--min-hosts: {options.min_hosts}, but {options.hostfile} has {len(self.hosts)}")
        if options.master_addr and (wrong := wrong_name(options.master_addr)):
            raise InputError(f"--master-addr: {options.master_addr!r}: {wrong}")
        self.run = RunFolder(Path(check_plain("output", config.output.absolute())))
        self.ssh = Ssh.of(self.environment, options.ssh_port)
        self.variables = self._variables()

    @property
    def hostfile(self) -> Path:
        return self.run.log / "hostfile"

    @property
    def exported(self) -> Path:
        return self.run.log / "environment"

    def _read_hosts(self) -> list[Host]:
        hosts = read_hostfile(self.options.hostfile)
        if len({host.slots for host in hosts}) > 1:
            found = ", ".join(sorted({str(host.slots) for host in hosts}, key=int))
            raise InputError(
                f"{self.options.hostfile}: hosts with {found} slots; the same number on all is accepted "
                "(DeepSpeed numbers the GPUs of a host wrong otherwise)"
            )
        return hosts

    def _look_for_other_hosts(self) -> None:
        """Whoever replaces a host writes it into the file; while that is wrong, those of before are asked."""
        try:
            self.hosts = self._read_hosts()
        except InputError as error:
            print(f"kilobatch: {error}; the hosts known so far are taken", file=sys.stderr, flush=True)

    def _address(self, first: Host) -> str:
        """Of the first host that takes part."""
        return self.options.master_addr if self.options.master_addr and first.name == self.first else first.name

    def _variables(self) -> dict[str, str]:
        """What the ranks get: of a `.deepspeed_env` where DeepSpeed looks for one, and of this process."""
        name, found = self.environment.get(VARIABLES, ".deepspeed_env"), {}
        for path in (Path.home() / name, Path(name)):
            if path.is_file():
                found.update(read_variables(path))
        return {**found, "KINETO_LOG_LEVEL": "99", **inherited(self.environment)}

    def command(self, hosts: list[Host], port: int) -> list[str]:
        """The DeepSpeed launcher's, for these hosts."""
        return [
            str(Path(sys.executable).with_name("deepspeed")),
            "--hostfile", str(self.hostfile),
            "--force_multi", "--no_ssh_check",
            "--master_addr", self._address(hosts[0]),
            "--master_port", str(port),
            "--no_local_rank", "--log_level", "critical", "--launcher_args=-N", "--module", "--",
            "--log_level=critical",  # DeepSpeed hands it to the hosts' launchers in the module's place alone
            RANK, str(self.run.config),
        ]  # fmt: skip

    def launcher_environment(self) -> dict[str, str]:
        """Of the launcher itself: DeepSpeed exports to the ranks whatever has one of its prefixes."""
        kept = {name: value for name, value in self.environment.items() if not name.startswith(WITHHELD)}
        return {**kept, VARIABLES: str(self.exported), SSH_ARGUMENTS: self.ssh.pdsh_arguments()}

    def show_command(self) -> None:
        """Print the start of all hosts (`--print`); writes nothing, and contacts nobody."""
        port = self.options.master_port or PORT
        print(f"# {self.hostfile}:")
        for line in render(self.hosts).splitlines():
            print(f"#   {line}")
        print(f"# {self.exported}: {' '.join(sorted(self.variables))}")
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.launcher_environment().items()
                    if name in (VARIABLES, SSH_ARGUMENTS)]  # fmt: skip
        print(*settings, shlex.join(self.command(self.hosts, port)))

    def start(self, made: int) -> Start:
        """The next start, after a look at the hosts; `made`: how many were made before.

        Raises:
            RunError: too few hosts are fit, or the batch divides over none of their slots.
        """
        if made:
            self._look_for_other_hosts()
        hosts, port, variables, said = self.hosts, self.options.master_port or PORT, self.variables, ""
        if self.options.preflight:
            fit = self.fit(first=not made, end=True)
            hosts, said = self.pick([found.host for found in fit])
            chosen = [found for found in fit if found.host.name in {host.name for host in hosts}]
            port = self.options.master_port or chosen[0].port
            variables = {**_on_cpus(chosen, hosts[0].slots), **variables}
        again = {"resume": "auto"} if made and self.config.resume == "never" else {}
        write_bytes(self.run.config, dump_config(self.config.model_copy(update=again)).encode())
        self.hostfile.write_text(render(hosts), encoding="utf-8")
        self.exported.unlink(missing_ok=True)
        self.exported.touch(0o600)  # the values may be secret
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        self.exported.write_text("".join(lines), encoding="utf-8")
        environment = {**self.launcher_environment(), **_accelerator(variables)}
        command = [sys.executable, "-m", "launch.tether", *self.command(hosts, port)]
        elsewhere = Elsewhere(self.exported, lambda number: self.signal(hosts, number))
        return Start(command, environment, _slots(hosts), said, elsewhere)

    def signal(self, hosts: list[Host], number: Signals) -> bool:
        """Ask the ranks on all these hosts to stop, or kill them; whether any was reached."""
        request = {"do": "end" if number == Signals.SIGKILL else "stop", "config": str(self.run.config)}
        reached = 0
        for answer in self.ssh.ask_all(hosts, [request] * len(hosts)):
            if isinstance(answer, Unanswered):
                print(f"kilobatch: {answer}", file=sys.stderr, flush=True)
            else:
                reached += answer["reached"]
        return reached > 0

    def fit(self, first: bool, end: bool) -> list[Fit]:
        """The hosts that can take part; `end`: what an earlier start left on them is killed.

        Raises:
            RunError: too few.
        """
        cpu = self.variables.get("DS_ACCELERATOR") == "cpu"
        fit = preflight(self.ssh, self.hosts, self.config, self._address(self.hosts[0]), cpu=cpu, end=end)
        needed = self.options.min_hosts or (len(self.hosts) if first else 1)
        if len(fit) < needed:
            raise NotNow(f"{len(fit)} of {len(self.hosts)} host(s) are fit, {needed} are needed; see the lines above")
        return fit

    def pick(self, fit: list[Host]) -> tuple[list[Host], str]:
        """The hosts to use, and a line where they are not all."""
        batch = self.config.batch
        hosts = pick(fit, batch.train_batch_size // batch.train_micro_batch_size_per_gpu)
        if _slots(hosts) == _slots(self.hosts):
            return hosts, ""
        names = ", ".join(f"{host.name} × {host.slots}" for host in hosts)
        geometry = plan.geometry_of(self.config, _slots(hosts))
        return hosts, f"{_slots(hosts)} of {_slots(self.hosts)} ranks, on {names}: {geometry}"


def _slots(hosts: list[Host]) -> int:
    return sum(host.slots for host in hosts)


def _on_cpus(fit: list[Fit], slots: int) -> dict[str, str]:
    """Without GPUs: a fair share of the cores for each rank."""
    if any(found.gpus for found in fit):
        return {}
    cores = min(found.cores for found in fit)
    return {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, cores // slots))}


def _accelerator(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name == "DS_ACCELERATOR"}


def launch(config: PretrainConfig, options: Options, show: bool = False, dry_run: bool = False) -> int:
    """Check everything that can be checked, then train on the hosts; the exit code of the run.

    Raises:
        InputError, DigestError, Stopped: before any process is started. RunError: too few hosts are fit.
    """
    cluster = Cluster(config, options)
    world_size, run = _slots(cluster.hosts), cluster.run
    corpus, _ = plan.check(config, world_size)
    if show:
        cluster.show_command()
        return 0
    check_programs()
    done = steps_done(run, config, corpus)
    if dry_run:
        _show_plan(cluster)
        return 0
    if is_done(run, config, done):
        return 0
    run.log.mkdir(parents=True, exist_ok=True)
    with locked(run) as lock:
        return supervise(Run(run.log, cluster.start, Newest(run, done).step, config.restarts), lock)


def _show_plan(cluster: Cluster) -> None:
    """On the hosts that are fit now; whatever runs there is left alone."""
    hosts, said = cluster.hosts, ""
    if cluster.options.preflight:
        hosts, said = cluster.pick([found.host for found in cluster.fit(first=True, end=False)])
    if said:
        print(said)
    plan.show(cluster.config, _slots(hosts), f"{len(hosts)} host(s)")


def check_programs() -> None:
    """Raises InputError where a program is missing that starts the hosts."""
    for program in ("pdsh", "ssh"):
        if shutil.which(program) is None:
            raise InputError(f"{program}: no such program here; DeepSpeed starts hosts by pdsh over ssh")
