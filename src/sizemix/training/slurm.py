"""What a Slurm job needs to survive its time limit: it is started again, and finds the run it began.

`#SBATCH --signal=USR1@120 --requeue` lets Slurm send SIGUSR1 two minutes before the limit. The run then saves, and its
rank 0 puts the job back into the queue. When Slurm starts it again, or starts it on another machine because the first
has failed, the same command line continues the run instead of beginning another.
"""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sizemix.errors import UserError
from sizemix.runs.atomic import write_atomically
from sizemix.runs.folder import RunFolder

_RECORDS = Path(".sizemix")  # in the working folder, which Slurm keeps for a job that it starts again


def ending_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a run: SIGUSR1 means that only under Slurm."""
    always = (signal.SIGINT, signal.SIGTERM)
    return (*always, signal.SIGUSR1) if "SLURM_JOB_ID" in os.environ else always


def remember_run(folder: RunFolder, arguments: Sequence[str]) -> None:
    """Notes where this job's run stands; outside Slurm it does nothing. Where it cannot, it says what follows."""
    if "SLURM_JOB_ID" not in os.environ:
        return
    try:
        write_atomically(_record(arguments), lambda file: file.write(str(folder.path.resolve()).encode()))
    except OSError as error:
        print(
            f"sizemix: expected to write into {_RECORDS.resolve()}, got: {error.strerror}; if Slurm starts this job "
            f"again, it begins a new run: continue this one with resume={folder.path}.",
            file=sys.stderr,
        )


def begun_run(arguments: Sequence[str]) -> RunFolder | None:
    """The run that this command line began before Slurm started its job again; None where it began none."""
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0" or not _record(arguments).is_file():
        return None
    try:
        return RunFolder.open(_record(arguments).read_text())
    except UserError:  # somebody has removed it
        return None


def requeue() -> str:
    """Puts this job back into the queue; returns a sentence about it."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        reason = f"scontrol: {error.strerror}"
    else:
        if asked.returncode == 0:
            return f"Slurm: job {job} is in the queue again and will continue by itself."
        reason = " ".join(asked.stderr.split()) or f"scontrol ended with exit code {asked.returncode}"
    return f"Slurm: expected to put job {job} back into the queue, got: {reason}; start it again yourself."


def _record(arguments: Sequence[str]) -> Path:
    """One for a command line of a job step: a job may start several runs, side by side or one after another.

    Slurm keeps the job's number when it starts it again, and counts steps from 0 once more. A script that gives the
    same command line twice outside srun has one record for both; they need different names.
    """
    digest = hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:12]
    job, step = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_STEP_ID", "none")
    return _RECORDS / f"slurm-{job}-{step}-{digest}"
