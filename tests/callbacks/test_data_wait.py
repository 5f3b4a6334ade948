import time
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from sizemix.callbacks import data_wait as module
from sizemix.callbacks.data_wait import DataWait, Wait
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.batches import InMemoryBatches
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.loader import StepLoader
from sizemix.report.waiting import waiting_table
from sizemix.sizes.schedule import MixedSizes


class SlowModel(pl.LightningModule):
    """Takes a while for every step."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def training_step(self, batch, batch_idx):
        time.sleep(0.02)
        return torch.nn.functional.cross_entropy(self.layer(batch.images.mean((2, 3))), batch.targets)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_share_of_waiting_is_measured_for_each_size(tiny_dataset, quiet_trainer, monkeypatch, num_workers):
    """Batches take 60 ms at 8 px and next to none at 4 px, steps take 20 ms."""
    train = InMemoryBatches.train

    def slow(self, request):
        time.sleep(0.06 * (request.image_size == 8))
        return train(self, request)

    monkeypatch.setattr(InMemoryBatches, "train", slow)
    data_wait = DataWait()
    scheduler = SizeScheduler(MixedSizes((4, 8), (0.3, 0.7)), budget="constant", base_size=8, base_batch_size=4, seed=0)
    trainer = quiet_trainer(scheduler, data_wait, limit_val_batches=0)
    trainer.fit(SlowModel(), datamodule=SizedDataModule(tiny_dataset, val_size=8, num_workers=num_workers))
    small, large = data_wait.waits
    assert [small.image_size, large.image_size] == [4, 8]
    assert large.share > 0.4
    if not num_workers:
        assert small.share < 0.3
    assert large.step_seconds > large.waited_seconds > 0.03
    again = DataWait()
    again.load_state_dict(data_wait.state_dict())
    assert again.waits == data_wait.waits, "a resumed run goes on counting"


def test_a_step_counts_from_the_question_to_its_end(monkeypatch):
    loader = object.__new__(StepLoader)
    trainer, callback = SimpleNamespace(train_dataloader=loader), DataWait()
    for asked, served, end, size in [(10, 12, 15, 8), (20, 20.5, 24, 8), (30, 30, 31, 16)]:
        loader.asked_at, loader.served_at = asked, served
        monkeypatch.setattr(module.time, "perf_counter", lambda end=end: end)
        callback.on_train_batch_end(trainer, None, None, SimpleNamespace(image_size=size), 0)
    assert callback.waits == [Wait(8, 2.5, 9), Wait(16, 0, 1)]


def shown(waits, **options):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(waiting_table(waits, **options))
    return captured.get()


def test_a_large_share_comes_with_a_remedy():
    waits = [Wait(128, 3, 10), Wait(224, 1, 10)]
    text = shown(waits, num_workers=2, cores=8)
    assert "128 px │              30.0%" in text
    assert "224 px │              10.0%" in text
    assert "waited for images at 128 px: raise data.num_workers from 2 to 8" in text
    assert "choose lighter augmentation" in shown(waits, num_workers=8, cores=8)


def test_a_small_share_needs_none():
    assert "The network waited" not in shown([Wait(128, 1, 10)], num_workers=2, cores=8)
