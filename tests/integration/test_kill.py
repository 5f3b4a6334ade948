"""Real processes, killed with SIGKILL in the middle of an epoch and resumed by the command a user would type."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

_SMALL = (
    "data.train_images=600",
    "sizes.image_sizes=[8,12,16]",
    "sizes.shares=[0.4,0.3,0.3]",
    "sizes.base_size=12",
    "model.drop_path_rate=0.3",
    "recipe.base_batch_size=24",
    "evaluation.eval_sizes=[8]",
    "evaluation.calibration_images=48",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "evaluation.measure=gflops",
    "checkpoint.every_steps=2",
)


@pytest.fixture
def start(open_process):
    def start(cwd, *arguments):
        command = [sys.executable, "-m", "sizemix.cli.main", "train", *arguments]
        return open_process(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return start


def finish(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def kill_after_saves(process, checkpoint, saves):
    """Waits until the checkpoint has been replaced so often, then kills the run and all its processes."""
    seen = set()
    deadline = time.monotonic() + 120
    while len(seen) < saves:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "no checkpoint appeared"
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def left_over(folder):
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{name: cell for name, cell in row.items() if "throughput" not in name} for row in csv.DictReader(file)]
    return checkpoint, rows


@pytest.mark.parametrize(
    "options",
    [("data.num_workers=0",), ("data.num_workers=2", "trainer.accumulate_grad_batches=2"), ("trainer.devices=2",)],
    ids=["no workers", "two workers, two micro-batches", "two ranks"],
)
def test_a_killed_run_resumes_to_bit_identical_weights(start, tmp_path, options):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(tmp_path, *_SMALL, *options, f"hydra.run.dir={whole}"))

    process = start(tmp_path, *_SMALL, *options, f"hydra.run.dir={killed}")
    kill_after_saves(process, killed / "checkpoints" / "last.ckpt", saves=4)
    step = torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    finish(start(tmp_path, f"resume={killed}"))

    (expected, expected_rows), (resumed, resumed_rows) = left_over(whole), left_over(killed)
    assert 0 < step < expected["global_step"], "the kill came too late to show anything"
    assert resumed["global_step"] == expected["global_step"]
    differing = [
        name for name, value in expected["state_dict"].items() if not torch.equal(value, resumed["state_dict"][name])
    ]
    assert not differing
    assert resumed_rows == expected_rows
    assert (whole / "plan.csv").read_bytes() == (killed / "plan.csv").read_bytes()
    assert (whole / "curve.csv").read_bytes() == (killed / "curve.csv").read_bytes()
