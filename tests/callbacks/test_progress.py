import contextlib
import sys
from statistics import mean
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from sizemix.callbacks.epoch_lines import EpochLines
from sizemix.callbacks.progress import SizeProgressBar, tell
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.batches import Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.models.backbone import build_backbone
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR

_LOGGED = {
    "train/loss": torch.tensor(0.51234),
    "train/lr": torch.tensor(0.1),
    "throughput/images_per_second": torch.tensor(1234.6),
    "val/top1@28": torch.tensor(0.874),
}


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def bar_behind_a_step():
    bar = SizeProgressBar(refresh_rate=50)
    bar._train_progress_bar = SimpleNamespace(total=None)
    bar.on_train_batch_end(None, None, None, Batch(torch.empty(0), torch.empty(0), image_size=224), 0)
    return bar


def test_the_bar_shows_validation_loss_size_and_speed():
    shown = bar_behind_a_step().get_metrics(SimpleNamespace(callback_metrics=_LOGGED), None)
    assert shown == {"val": "87.4%", "loss": "0.512", "px": "224", "images/s": "1235"}
    assert next(iter(shown)) == "val", "what is cut off is at the end"


def test_the_bar_shows_nothing_before_anything_is_logged():
    assert SizeProgressBar().get_metrics(SimpleNamespace(callback_metrics={}), None) == {}


def test_the_bar_fits_into_80_columns(terminal):
    bar = bar_behind_a_step()
    trainer = SimpleNamespace(callback_metrics=_LOGGED, current_epoch=11, max_epochs=90)
    bar._trainer = trainer
    drawn = bar.init_train_tqdm()
    drawn.set_description("Epoch 12/90")
    drawn.total, drawn.n = 5004, 1017
    drawn.set_postfix(bar.get_metrics(trainer, None))
    text = drawn.format_meter(**{**drawn.format_dict, "ncols": 80, "elapsed": 120.0})
    drawn.close()
    assert len(text) <= 80
    assert "val=87.4%, loss=0.512, px=224" in text


def test_the_bar_of_a_resumed_epoch_begins_where_the_run_is(terminal):
    """Lightning does not tell the start of an epoch that goes on."""
    bar = SizeProgressBar(refresh_rate=100)
    trainer = SimpleNamespace(current_epoch=1, max_epochs=3, num_training_batches=40)
    bar._trainer = trainer
    bar.on_train_start(trainer)
    for first in (25, 0):
        if not first:
            trainer.current_epoch += 1
            bar.on_train_epoch_start(trainer)
        bar.on_train_batch_start(trainer, None, None, first)
        bar.on_train_batch_start(trainer, None, None, first + 1)
        drawn = bar.train_progress_bar
        assert (drawn.n, drawn.initial, drawn.total) == (first, first, 40)
        assert drawn.desc.startswith(f"Epoch {trainer.current_epoch + 1}/3")
    bar.on_train_end(trainer)


def test_a_log_file_gets_lines_and_no_bar(capsys):
    bar = SizeProgressBar()
    assert bar.is_disabled
    tell(SimpleNamespace(progress_bar_callback=bar), "a line")
    assert capsys.readouterr().out == "a line\n"


class EndedError(Exception):
    """Stands for the end of a process."""


class Losses(pl.Callback):
    """Notes the loss of every batch by epoch; may end the run behind a batch, after a save."""

    def __init__(self, end_behind=None, save_to=None):
        self.seen = {}
        self._end_behind, self._save_to = end_behind, save_to

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.setdefault(trainer.current_epoch, []).append(outputs["cross_entropy"].item())
        if trainer.global_step == self._end_behind:
            trainer.save_checkpoint(self._save_to)
            raise EndedError


@pytest.fixture
def trained(tiny_dataset, quiet_trainer, capsys):
    """Trains 2 epochs of 10 steps; the lines of the epochs, and the trainer."""

    def train(losses, *, log_every_n_steps, ckpt_path=None):
        net, optimizer = build_backbone("resnet20_cifar", num_classes=2), {"opt": "momentum", "lr": 0.05}
        model = ImageClassifier(
            net, architecture={}, num_classes=2, optimizer=optimizer, lr_schedule=CosineLR(), val_size=8
        )
        sizes = MixedSizes((4, 8), (0.5, 0.5))
        scheduler = SizeScheduler(sizes, budget="constant", base_size=8, base_batch_size=4, seed=0)
        lines = EpochLines(val_metric="val/top1@8", val_size=8)
        trainer = quiet_trainer(scheduler, lines, losses, max_epochs=2, log_every_n_steps=log_every_n_steps)
        with contextlib.suppress(EndedError):
            trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8), ckpt_path=ckpt_path)
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")], trainer

    return train


@pytest.mark.parametrize("log_every_n_steps", [4, 50], ids=["logged steps", "epochs without a logged step"])
def test_every_epoch_is_told_in_a_line_with_its_loss(trained, log_every_n_steps):
    losses = Losses()
    (first, second), trainer = trained(losses, log_every_n_steps=log_every_n_steps)
    assert first.startswith(f"Epoch 1/2: 10 steps at 4 to 8 px, loss {mean(losses.seen[0]):.3f}, val top-1 ")
    top1 = trainer.callback_metrics["val/top1@8"].item()
    assert second.startswith(
        f"Epoch 2/2: 10 steps at 4 to 8 px, loss {mean(losses.seen[1]):.3f}, val top-1 {top1:.2%} at 8 px, "
    )


def test_the_loss_of_an_epoch_that_goes_on_is_that_of_all_its_batches(trained, tmp_path):
    before, behind = Losses(end_behind=16, save_to=tmp_path / "part.ckpt"), Losses()
    trained(before, log_every_n_steps=50)
    (line,), _ = trained(behind, log_every_n_steps=50, ckpt_path=tmp_path / "part.ckpt")
    losses = [*before.seen[1], *behind.seen[1]]
    assert len(losses) == 10
    assert f"loss {mean(losses):.3f}, " in line


def test_an_epoch_that_goes_on_is_timed_from_the_start_of_its_process():
    """Lightning does not tell a resumed epoch's start again."""
    scheduler = SizeScheduler(MixedSizes((8,), (1.0,)), budget="constant", base_size=8, base_batch_size=4, seed=0)
    plan = scheduler.plan(num_images=40, num_epochs=2)
    lines = EpochLines(val_metric="val/top1@8", val_size=8)
    lines.on_train_start(None, None)
    resumed = SimpleNamespace(
        datamodule=SimpleNamespace(plan=plan), current_epoch=0, global_step=10, callback_metrics={}
    )
    assert lines._line(resumed) == "Epoch 1/2: 10 steps at 8 px, 0 s"
