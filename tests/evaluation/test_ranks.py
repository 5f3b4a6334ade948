"""Two real processes look at their parts of the images, and know what one process knows."""

import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sizemix.evaluation.predictions import Predictions
from sizemix.evaluation.ranks import combined, gathered, on_its_own
from sizemix.models.bank import BatchNormBank

# Evaluates a fixed network on the embedded images, alone or as one of two ranks, and writes what it knows.
_PROGRAM = """
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
import timm, torch
import sizemix.models
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.sources import fashion_mnist
from sizemix.evaluation.evaluation import EvaluationProtocol, evaluate
from sizemix.models.bank import Calibration
from sizemix.report.evaluation import write_bank
from sizemix.runs.folder import EvaluationFiles

rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
torch.set_num_threads(1)
if world > 1:
    store = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
torch.manual_seed(0)
net = timm.create_model("resnet20_cifar", num_classes=10)
images = fashion_mnist(train_images=200)
images = replace(images, test=images.test.subset(torch.arange(400)), val=images.val.subset(torch.arange(100)))
datamodule = SizedDataModule(images, val_size=12, eval_batch_size=30)
datamodule.trainer = SimpleNamespace(
    strategy=SimpleNamespace(root_device=torch.device("cpu")), global_rank=rank, world_size=world,
    accumulate_grad_batches=1, is_global_zero=rank == 0,
)
protocol = EvaluationProtocol((12, 16), 12, Calibration(200, 40, "test"), measure="latency")
found = evaluate(net, datamodule, protocol, name="net", autocast=nullcontext, show_progress=False)
found.test.save(out / "test.npz")
write_bank(found.bank, EvaluationFiles(out))
"""


def evaluated(tmp_path, world_size):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = []
    for rank in range(world_size):
        out = tmp_path / f"{rank} of {world_size}"
        out.mkdir()
        command = [sys.executable, "-c", _PROGRAM, str(rank), str(world_size), str(port), str(out)]
        processes.append((out, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
    for out, process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
        yield Predictions.load(out / "test.npz"), BatchNormBank.load(out / "bn_bank.safetensors")


def test_two_processes_give_what_one_gives(tmp_path):
    ((alone, bank),) = evaluated(tmp_path, 1)
    both = list(evaluated(tmp_path, 2))
    for found, other_bank in both:  # five batches of calibration and fourteen of the test: one rank has more
        assert np.array_equal(found.targets, alone.targets), "in the split's order"
        assert np.allclose(found.best.confidence, alone.best.confidence, atol=1e-6)
        assert np.array_equal(found.plain.predicted, alone.plain.predicted)
        assert found.image_digest == alone.image_digest
        for size, statistics in bank.statistics.items():
            for name, value in statistics.items():
                assert torch.allclose(other_bank.statistics[size][name], value, rtol=1e-6, atol=1e-6)
    assert np.array_equal(both[0][0].best.loss, both[1][0].best.loss), "all ranks know the very same"


def test_one_process_is_the_whole():
    sums = {8: torch.ones(3, dtype=torch.float64)}
    assert gathered("part") == ["part"]
    assert torch.equal(combined(sums)[8], sums[8])


def test_synchronised_batch_norms_keep_their_group(monkeypatch):
    net = nn.Sequential(nn.SyncBatchNorm(3), nn.BatchNorm2d(3))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.new_subgroups", lambda size: (f"group of {size}", []))
    with on_its_own(net):
        assert net[0].process_group == "group of 1"
    assert net[0].process_group is None
    with pytest.raises(RuntimeError), on_its_own(net):
        raise RuntimeError
    assert net[0].process_group is None
