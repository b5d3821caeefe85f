"""A real Slurm on the loopback interface: munge, a controller and one node, all of whose files are in one folder."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

DEADLINE_SECONDS = 300.0
"""Only there to find what hangs."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
# A requeued job starts again when its credential of the first time is no longer valid (cred_expire, 120 s if not set).
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2
JobRequeue=1
ReturnToService=2
MessageTimeout=100
SlurmdTimeout=3600
SlurmctldTimeout=3600
BatchStartTimeout=300
TCPTimeout=60
KillWait=60
UnkillableStepTimeout=300
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    without = [name for name in PROGRAMS if _path(name) is None]
    if without:
        return f"not installed (slurm-wlm, munge): {', '.join(without)}"
    return "" if os.geteuid() == 0 else "needs root"


class SlurmCluster:
    """Started at once; `stop` ends all of its processes, and the end of this process does.

    Args:
        folder: empty; with a short name, for it holds a socket.

    Attributes:
        environment: what makes Slurm's commands speak to it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        controller_port, node_port = _free_ports(2)
        self.config = folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(folder=folder, host=host, controller_port=controller_port, node_port=node_port)
        )
        self.environment = {"SLURM_CONF": str(self.config), "PATH": SEARCHED}
        self._daemons: list[subprocess.Popen[bytes]] = []
        atexit.register(self.stop)
        try:
            self._start(host)
        except BaseException:
            self.stop()
            raise

    def _start(self, host: str) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munge = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        # --force: the folder's parents need not be root's alone.
        self._daemon("munged", "--foreground", "--force", *(f"--{k}={self.folder / v}" for k, v in munge.items()))
        self._wait("munge answers", lambda: (self.folder / "munge.socket").is_socket())
        self._daemon("slurmctld", "-D", "-f", str(self.config))
        self._wait("the controller answers", lambda: self._asked("scontrol", "ping").returncode == 0)
        self._daemon("slurmd", "-D", "-f", str(self.config), "-N", host)
        self._wait("the node is idle", lambda: self._asked("sinfo", "-h", "-o", "%T").stdout.strip() == "idle")

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("wb") as output:
            command = [str(_path(name)), *arguments]
            environment = os.environ | self.environment
            self._daemons.append(
                subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
            )

    def _wait(self, what: str, is_so) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_so():
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"never: {what}; ended: {ended}\n{self.logs()}")
            time.sleep(0.1)

    def _asked(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = self._asked(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of what the daemons said."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def stop(self) -> None:
        """Ends the daemons, and all that they have started."""
        atexit.unregister(self.stop)
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        # What a job's step has started is in process groups of its own; all of it knows the cluster's configuration.
        mark = f"SLURM_CONF={self.config}".encode()
        while mine := [pid for pid in _pids() if mark in _environment(pid)]:
            for pid in mine:
                _kill(pid)
            time.sleep(0.05)


def _path(program: str) -> str | None:
    return shutil.which(program, path=SEARCHED)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _pids() -> list[int]:
    return [
        int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal() and int(path.name) != os.getpid()
    ]


def _environment(pid: int) -> list[bytes]:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
