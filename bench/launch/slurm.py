"""Jobs on Slurm: all are given to it at once, and it keeps their order.

Slurm's accounting (sacct) is not needed: what is queued or runs is asked of `squeue`, and a job that is in neither
state is done if its result is there, and failed if not.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError

from bench.errors import UserError
from bench.launch.jobs import CommandFailed, Job, State, Work, run_command
from bench.run.preemption import PREEMPTED

if TYPE_CHECKING:  # it imports torch, which a job's own process does without
    from bench.config.schema import TrainerConfig


SAVE_SECONDS = 120
"""How long before its time is up a job is signalled to save."""
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
"""`squeue`'s states of jobs that do not run again."""
RUNNING = ("RUNNING", "COMPLETING")


def slurm_work(work: Work) -> None:
    """What submitit calls in a job's process on Slurm: a command that is signalled to save and exit is requeued.

    The signal is `scancel --signal=USR1` or Slurm's at the end of the time; `scancel` alone (SIGTERM) ends the job.
    """
    status, received = run_command(work)
    # One that had just started does not listen yet, and ends by the signal.
    if status in (PREEMPTED, -signal.SIGUSR1) and received != signal.SIGTERM:
        if os.environ.get("SLURM_PROCID", "0") == "0":
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        sys.exit(PREEMPTED)
    if status:
        raise CommandFailed(f"exit status {status}")


def slurm_machine(config: TrainerConfig) -> list[str]:
    """Overrides that say what the jobs will run on, which need not be what this machine has.

    `auto` is a GPU if the cluster has some, with bf16-mixed.
    """
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if "gpu" in _asked("sinfo", "--noheader", "--format=%G") else "cpu"
    precision = config.precision
    if precision == "auto":
        precision = "auto:bf16-mixed" if accelerator == "gpu" else "auto:32-true"
    return [f"trainer.accelerator={accelerator}", f"trainer.precision={precision}"]


class SlurmLauncher:
    """Gives jobs to Slurm, unless they are there already.

    Args:
        options: of `sbatch`, by their long names without the dashes in front; they win over what is set here.
    """

    poll_seconds = 5.0

    def __init__(self, options: Mapping[str, str]):
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._jobs: dict[str, Job] = {}
        self._ids: dict[str, str] = {}
        self._states: dict[str, State] = {}
        self._before = _queue()

    def submit(self, job: Job) -> None:
        number, state = self._before.get(str(job.folder), ("", "COMPLETED"))
        self._jobs[job.name] = job
        self._ids[job.name] = self._sbatch(job) if state in ENDED else number
        self._states[job.name] = State.WAITS

    def _sbatch(self, job: Job) -> str:
        """Returns the job's number."""
        needed = [self._ids[name] for name in job.needs if name in self._ids]
        executor = SlurmExecutor(job.folder)
        executor.update_parameters(
            job_name=job.name,
            comment=str(job.folder),
            time=None,  # the partition's
            nodes=job.nodes,
            ntasks_per_node=1 if job.nodes == 1 else job.devices,
            gpus_per_node=job.devices if job.gpu and not self._asks_for_gpus else None,
            dependency=f"afterok:{':'.join(needed)}" if needed else None,
            stderr_to_stdout=True,
            # Since 22.05 srun does not take this from sbatch.
            setup=['[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'],
            additional_parameters={
                "signal": f"USR1@{SAVE_SECONDS}",
                "requeue": True,
                "kill-on-invalid-dep": "yes",
                **self._options,
            },
        )
        try:
            return executor.submit(slurm_work, Work(job.command, job.log)).job_id
        except FailedJobError as error:
            raise UserError(f"Slurm refused {job.name}: {str(error).strip()}") from None

    @property
    def _asks_for_gpus(self) -> bool:
        return any(name.startswith(("gpus", "gres")) for name in self._options)

    def states(self) -> dict[str, State]:
        """The last ones known, where Slurm does not answer."""
        try:
            queue = _queue()
        except UserError:
            return dict(self._states)
        for name, job in self._jobs.items():
            self._states[name] = self._state(job, *queue.get(str(job.folder), ("", "COMPLETED")))
        return dict(self._states)

    def _state(self, job: Job, number: str, state: str) -> State:
        if number == self._ids[job.name] and state not in ENDED:
            return State.RUNS if state in RUNNING else State.WAITS
        if job.done:
            return State.DONE
        needed = {self._states[name] for name in job.needs if name in self._states}
        return State.NOT_RUN if needed & {State.FAILED, State.NOT_RUN} else State.FAILED

    def stop(self) -> str:
        left = [self._ids[name] for name, state in self.states().items() if not state.ended]
        return f"{len(left)} jobs stay with Slurm and go on; to end them: scancel {' '.join(left)}"


def _queue() -> dict[str, tuple[str, str]]:
    """Job folder -> number and state of the user's newest job with this comment."""
    lines = _asked("squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%k").splitlines()
    jobs = sorted((line.split("|", 2) for line in lines), key=lambda fields: _order(fields[0]))
    return {folder: (number, state) for number, state, folder in jobs}


def _order(number: str) -> int:
    """`12` or, of an array, `12_3`."""
    return int(re.match(r"\d+", number)[0])  # type: ignore[index]


def _asked(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    except FileNotFoundError:
        raise UserError(
            f"{command[0]} is not installed: --launcher slurm works on a machine of a Slurm cluster"
        ) from None
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", "") or str(error)).strip()
        raise UserError(f"{command[0]}: {said}") from error
