"""Signals to real processes: ranks and their workers end together, in order, and leave nobody behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

_SMALL = (
    "data.train_images=200",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=20",
    "evaluation.eval_sizes=[8]",
    "evaluation.calibration_images=20",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "evaluation.measure=gflops",
    "trainer.log_every_n_steps=3",
    "checkpoint.every_steps=2",
    "+trainer.limit_val_batches=1",
)


@pytest.fixture
def start(open_process):
    def start(cwd, *arguments, **variables):
        command = [sys.executable, "-m", "sizemix.cli.main", "train", *_SMALL, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return open_process(command, cwd=cwd, env=os.environ | variables, **streams)

    return start


def wait_for_checkpoint(process, folder):
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive_in(group):
    states = subprocess.run(["ps", "-g", str(group), "-o", "stat="], capture_output=True, text=True, check=False)
    return [state for state in states.stdout.split() if not state.startswith("Z")]


def saved_step(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def test_sigterm_to_one_rank_stops_all_in_order(start, tmp_path):
    folder = tmp_path / "run"
    process = start(
        tmp_path, "trainer.devices=2", "data.num_workers=0", "trainer.max_epochs=2000", f"hydra.run.dir={folder}"
    )
    wait_for_checkpoint(process, folder)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors == f"\nsizemix: interrupted; continue with resume={folder}\n"
    assert saved_step(folder) % 10 in (0, 3, 6, 9), "an epoch has 10 steps, and every third is logged"


@pytest.fixture
def scontrol(tmp_path):
    """A scontrol that notes its arguments; returns a PATH and the note."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}", tmp_path / "asked"


def test_a_slurm_job_saves_before_its_limit_and_goes_on_when_slurm_starts_it_again(start, tmp_path, scontrol):
    path, asked = scontrol
    job = {"SLURM_JOB_ID": "12", "PATH": path}
    command = ("data.num_workers=2", "trainer.max_epochs=3", "hydra.run.dir=run-${now:%S%f}")
    process = start(tmp_path, *command, **job)
    folder = wait_for_run(tmp_path)
    wait_for_checkpoint(process, folder)
    os.killpg(process.pid, signal.SIGUSR1)  # Slurm sends it to all processes, the workers too
    _, errors = process.communicate(timeout=60)
    assert alive_in(process.pid) == []
    assert process.returncode == 138
    assert [line for line in errors.splitlines() if line] == [
        "Stopping after this step; once more stops at once.",
        f"sizemix: interrupted; continue with resume={folder}",
        "Slurm: job 12 is in the queue again and will continue by itself.",
    ]
    assert asked.read_text() == "requeue 12\n"
    step = saved_step(folder)

    process = start(tmp_path, *command, SLURM_RESTART_COUNT="1", **job)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert f"Slurm has started this job again: continuing {folder}." in output
    assert f"Continuing after step {step}." in output
    assert saved_step(folder) == 30
    assert list(tmp_path.glob("run-*")) == [folder]


def wait_for_run(place):
    deadline = time.monotonic() + 60
    while not (found := list(place.glob("run-*/config.yaml"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0].parent
