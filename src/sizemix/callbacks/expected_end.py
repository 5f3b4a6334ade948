"""Tells early in a run when its training will end."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from sizemix.callbacks.progress import tell
from sizemix.data.batches import Batch
from sizemix.sizes.plan import SizePlan

_WARM_UP_STEPS, _STEPS = 10, 50


class ExpectedEnd(pl.Callback):
    """Prints the expected end once the first 50 steps of this process are done.

    The time of steps 11 to 50 is taken to be in proportion to their compute, so that sizes which come later, or more
    often, count as what they cost. Validation and the final evaluation come on top.

    Args:
        timer: ends training when its time is over, if it has a limit; None: nothing does.
    """

    def __init__(self, timer: Timer | None = None) -> None:
        self._timer = timer
        self._steps = 0  # of this process
        self._since: float | None = None
        self._seconds = 0.0
        self._timed: list[int] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock until the epoch's first step is done: validation and saves do not count."""
        self._since = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Times whole steps from the eleventh on; tells behind the fiftieth."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or self._steps > _STEPS:
            return
        self._steps += 1
        if self._steps > _WARM_UP_STEPS and self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._timed.append(trainer.global_step - 1)
        self._since = time.perf_counter()
        if self._steps == _STEPS and self._timed and trainer.is_global_zero:
            plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
            left = seconds_left(plan, timed=self._timed, done=trainer.global_step, seconds=self._seconds)
            if left:
                tell(trainer, self._sentence(left))

    def _sentence(self, seconds: float) -> str:
        limit = None if self._timer is None else self._timer.time_remaining()
        limited = limit is not None and limit < seconds
        left = timedelta(seconds=round(seconds if limit is None else min(seconds, limit)))
        end = datetime.now() + left
        day = "" if end.date() == datetime.now().date() else f"{end:%A %d %B}, "
        what = "as trainer.max_time is over then" if limited else "validation not counted"
        return f"Training is expected to end at {day}{end:%H:%M} (in {left}), {what}."


def seconds_left(plan: SizePlan, *, timed: Sequence[int], done: int, seconds: float) -> float:
    """Seconds that the steps left will take.

    Args:
        plan: of the run.
        timed: numbers of steps.
        done: number of the next step.
        seconds: that the timed steps took.
    """
    inputs = plan.inputs
    cost_of_size = {
        size: shape.global_batch_size * shape.num_repeats * inputs.cost[size] for size, shape in inputs.shapes.items()
    }
    costs = np.array([cost_of_size[size] for size in plan.columns()["image_size"].tolist()])
    return float(seconds * costs[done:].sum() / costs[list(timed)].sum())
