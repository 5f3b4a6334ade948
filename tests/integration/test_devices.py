"""Two real processes on the CPU: however they are started they train the same network, and they end together."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sizemix.runs.folder import RunFolder

_SMALL = (
    "data.train_images=200",
    "data.num_workers=0",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=20",
    "evaluation.eval_sizes=[8]",
    "evaluation.calibration_images=20",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "evaluation.measure=gflops",
    "trainer.devices=2",
    "checkpoint.every_steps=2",
)
_ENDLESS = "trainer.max_epochs=2000"
_TRAIN = ("-m", "sizemix.cli.main", "train")
_TORCHRUN = ("-m", "torch.distributed.run")

# In place of `sizemix train`: rank 1, as torchrun and Lightning call it, fails at its third step.
_BROKEN = """
import os, sys
from sizemix.callbacks.throughput import Throughput
from sizemix.training import run

def fail(self, trainer, *_):
    if os.environ.get("LOCAL_RANK") == "1" and trainer.global_step == 2:
        raise RuntimeError("it broke")

Throughput.on_train_batch_start = fail
sys.exit(run.main(sys.argv[1:]))
"""


@pytest.fixture
def start(open_process):
    def start(cwd, *arguments, **variables):
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return open_process([sys.executable, *arguments], cwd=cwd, env=os.environ | variables, **streams)

    return start


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors


def last_weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def task_of_slurm(rank):
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank),
        "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1",
    }


def test_all_launchers_train_the_same_network(start, tmp_path):
    own, torchrun, slurm = tmp_path / "own", tmp_path / "torchrun", tmp_path / "slurm"
    finish(start(tmp_path, *_TRAIN, *_SMALL, f"hydra.run.dir={own}"))

    two_nodes = (*_TRAIN, *_SMALL, "trainer.devices=1", "trainer.num_nodes=2")
    agent = (*_TORCHRUN, "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}")
    command = (*two_nodes, f"hydra.run.dir={torchrun}")
    finish(*(start(tmp_path, *agent, f"--node-rank={node}", *command) for node in (0, 1)))

    command = (*two_nodes, f"hydra.run.dir={slurm}")
    finish(*(start(tmp_path, *command, **task_of_slurm(rank)) for rank in (0, 1)))

    expected = last_weights(own)
    for folder in (torchrun, slurm):
        assert all(torch.equal(value, expected[name]) for name, value in last_weights(folder).items()), folder.name
        assert (folder / "curve.csv").read_bytes() == (own / "curve.csv").read_bytes()


@pytest.mark.parametrize("launcher", [(), (*_TORCHRUN, "--standalone", "--nproc-per-node=2")], ids=["own", "torchrun"])
def test_an_exception_in_one_rank_ends_the_run_with_its_reason(start, tmp_path, prepared, launcher):
    (tmp_path / "broken.py").write_text(_BROKEN)
    process = start(tmp_path, *launcher, str(tmp_path / "broken.py"), str(prepared))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert sentences(errors) == [f"sizemix: rank 1 ended: RuntimeError: it broke; continue with resume={prepared}"]


@pytest.mark.parametrize(
    ("rank", "reason"), [(1, "killed by SIGKILL"), (0, "its process was killed or its machine lost")]
)
def test_a_killed_rank_ends_the_run_and_is_named(start, tmp_path, rank, reason):
    folder = tmp_path / "run"
    process = start(tmp_path, *_TRAIN, *_SMALL, _ENDLESS, f"hydra.run.dir={folder}")
    wait_for(lambda: (folder / "checkpoints" / "last.ckpt").exists() or process.poll() is not None)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child if rank else process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)  # until the last process has closed stderr, so all have ended
    assert process.returncode != 0
    assert sentences(errors) == [f"sizemix: rank {rank} ended: {reason}; continue with resume={folder}"]


def test_under_torchrun_a_mistake_is_told_once(start, tmp_path):
    launcher = (*_TORCHRUN, "--standalone", "--nproc-per-node=2")
    process = start(tmp_path, *launcher, *_TRAIN, "-m", *_SMALL, "seed=1,2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(sentences(errors)) == 1
    assert "a sweep (-m) starts its runs itself" in errors


@pytest.fixture
def prepared(compose, tmp_path):
    """A run folder that no process has trained in."""
    return RunFolder.create(tmp_path / "run", compose(*_SMALL, _ENDLESS)).path


def sentences(errors):
    return [line for line in errors.splitlines() if line.startswith("sizemix: ")]


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
