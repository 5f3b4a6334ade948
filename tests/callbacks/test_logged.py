"""Figures are handed to Lightning at logged steps alone; each row of metrics.csv holds those of its own step."""

import pytest
import pytorch_lightning as pl

from sizemix.callbacks.logged import is_logged
from sizemix.runs.folder import RunFolder
from sizemix.runs.metrics import MetricsCsv
from sizemix.training.assembly import assemble

_OF_THE_STEP = ("train/loss", "train/lr", "train/image_size")
_OF_SEVERAL_STEPS = ("train/smoothed_gradient_norm", "throughput/images_per_second")


class Steps(pl.Callback):
    """Notes each step, and which of its figures Lightning has been told; may stop the trainer."""

    def __init__(self, stop_at=None):
        self.expected = {}
        self.told = []
        self._stop_at = stop_at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self._stop_at
        figures = (outputs["cross_entropy"].item(), self._lr, batch.image_size)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.expected[trainer.global_step - 1] = figures
        if is_logged(trainer, batch_idx):
            self.told.append(trainer.global_step - 1)


@pytest.fixture
def rows_of(compose, tmp_path):
    """Trains; the steps as they were, and the rows of metrics.csv that hold a loss."""

    def train(steps, *options, folder="run", last=False):
        run = assemble(
            compose(
                *("data.train_images=100", "recipe.base_batch_size=10", "trainer.max_epochs=1", "data.num_workers=0"),
                *("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12"),
                *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=4"),
                *("+trainer.min_epochs=0", *options),
            ),
            RunFolder(tmp_path / folder),
        )
        run.trainer.callbacks.insert(len(run.trainer.callbacks) if last else 0, steps)
        run.trainer.fit(run.model, datamodule=run.datamodule)
        return [row for row in run.metrics.rows if "train/loss" in row]

    return train


@pytest.mark.parametrize(
    ("stop_at", "options", "logged"),
    [
        (None, [], [3, 7]),
        (None, ["trainer.accumulate_grad_batches=2"], [3, 7]),
        (6, [], [3, 5]),
    ],
)
def test_a_row_holds_the_figures_of_its_own_step(rows_of, stop_at, options, logged):
    steps = Steps(stop_at)
    rows = rows_of(steps, *options)
    assert [int(row["step"]) for row in rows] == steps.told == logged
    for row in rows:
        assert row.keys() >= {*_OF_THE_STEP, *_OF_SEVERAL_STEPS}
        figures = [float(row[name]) for name in _OF_THE_STEP]
        assert figures == pytest.approx(steps.expected[int(row["step"])], rel=1e-4)


class BrokenError(Exception):
    """Stands for the end of a process."""


class BreakBehind(pl.Callback):
    """Ends training behind a step, before Lightning logs it."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 8:
            raise BrokenError


def test_a_step_that_is_saved_and_no_more_logged_has_its_own_row(rows_of, tmp_path):
    whole = rows_of(Steps())[1]
    with pytest.raises(BrokenError):
        rows_of(BreakBehind(), "checkpoint.every_steps=8", folder="broken", last=True)
    (row,) = [row for row in MetricsCsv(RunFolder(tmp_path / "broken").metrics_csv).rows if row["step"] == "7"]
    assert {name: row[name] for name in _OF_THE_STEP} == {name: whole[name] for name in _OF_THE_STEP}
