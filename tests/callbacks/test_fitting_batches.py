"""sizes.budget=memory: what is measured becomes the plan, and a resumed run does not measure again."""

from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
import pytorch_lightning as pl
import torch

from sizemix.callbacks.fitting_batches import FittingBatches
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.models.memory import estimated_bytes, step_fits
from sizemix.runs.folder import RunFolder
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.assembly import assemble
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR
from sizemix.training.run import fit

_SIZES = MixedSizes((8, 16), (0.5, 0.5))


@pytest.fixture
def net():
    return build_backbone("resnet20_cifar", num_classes=2)


@pytest.fixture
def room_for(net, monkeypatch):
    """Gives the machine just the memory of a step of so many images of 16 px."""

    def limit(num_images):
        available = estimated_bytes(net, 16, num_images)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))

    return limit


def test_the_batch_of_each_size_is_what_memory_holds(net, room_for, quiet_trainer):
    room_for(80)
    batches = FittingBatches(net)(quiet_trainer(), image_sizes=(8, 16), num_images=100_000)
    assert batches[16] == 32, "on a CPU half is kept in reserve, and batches are multiples of 8"
    assert 3.5 * batches[16] < batches[8] <= 5 * batches[16]
    trial = {"device": torch.device("cpu"), "autocast": nullcontext}

    assert step_fits(net, 8, batches[8], **trial)
    assert not step_fits(net, 8, int(2.5 * batches[8]), **trial)


def test_a_resumed_run_takes_the_table_of_the_first_process(net, room_for, quiet_trainer, tmp_path):
    path = tmp_path / "fitting_batches.csv"
    room_for(40)
    first = FittingBatches(net, path)(quiet_trainer(), image_sizes=(8, 16), num_images=100_000)
    room_for(400)
    assert FittingBatches(net, path)(quiet_trainer(), image_sizes=(8, 16), num_images=100_000) == first
    assert path.read_text() == f"image_size,local_batch_size\n8,{first[8]}\n16,{first[16]}\n"


class Fixed:
    """Says that so many images fit."""

    def __call__(self, trainer, *, image_sizes, num_images):
        assert num_images == 40
        return dict(zip(image_sizes, (4, 2), strict=True))


class Batches(pl.Callback):
    def __init__(self):
        self.seen = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.add(tuple(batch.images.shape))


def test_training_takes_the_batches_that_fit(net, tiny_dataset, quiet_trainer):
    scheduler = SizeScheduler(_SIZES, budget="memory", base_size=16, base_batch_size=8, seed=0, fitting=Fixed())
    model = ImageClassifier(net, architecture={}, num_classes=2, optimizer={"opt": "momentum", "lr": 0.05},
                            lr_schedule=CosineLR(), val_size=8)  # fmt: skip
    batches = Batches()
    trainer = quiet_trainer(scheduler, batches, accumulate_grad_batches=2)
    trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8))
    assert batches.seen == {(4, 3, 8, 8), (2, 3, 16, 16)}
    assert scheduler.planned.spec(0).global_batch_size in (8, 4), "of both micro-batches"


def test_the_budget_memory_needs_someone_who_measures():
    with pytest.raises(UserError, match=r"expected fitting=FittingBatches\(net\)"):
        SizeScheduler(_SIZES, budget="memory", base_size=16, base_batch_size=8, seed=0)


def test_the_rank_with_the_least_memory_decides(net, room_for, quiet_trainer, monkeypatch):
    room_for(80)
    trainer = quiet_trainer()
    alone = FittingBatches(net)(trainer, image_sizes=(8, 16), num_images=100_000)
    monkeypatch.setattr(trainer.strategy, "all_gather", lambda batches: torch.stack([batches, batches // 2]))
    together = FittingBatches(net)(trainer, image_sizes=(8, 16), num_images=100_000)
    assert together == {size: batch // 2 for size, batch in alone.items()}


def test_a_run_keeps_its_plan_when_it_goes_on_with_other_memory(compose, tmp_path, monkeypatch):
    options = ("data.train_images=600", "sizes.image_sizes=[8,16]", "sizes.shares=[0.5,0.5]", "sizes.base_size=16",
               "sizes.budget=memory", "trainer.max_epochs=1", "trainer.enable_progress_bar=false",
               "trainer.accelerator=cpu", "recipe.base_batch_size=10", "evaluation.eval_sizes=[8]",
               "evaluation.batch_size=10")  # fmt: skip
    folder = RunFolder(tmp_path)
    whole = []
    for free in (10 * 2**30, 20 * 2**20):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        run = assemble(compose(*options), folder)
        fit(run, folder)
        whole.append(run.scheduler.planned.fingerprint)
    kept = FittingBatches(run.model.net, folder.fitting_csv)(run.trainer, image_sizes=(8, 16), num_images=600)
    anew = FittingBatches(run.model.net)(run.trainer, image_sizes=(8, 16), num_images=600)
    assert anew[16] < kept[16], "the example needs less memory than would be measured now"
    assert whole[0] == whole[1]
