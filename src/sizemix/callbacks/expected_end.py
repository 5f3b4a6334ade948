"""Tells early in a run when its training will end."""

import time
from datetime import datetime, timedelta

import numpy as np
import pytorch_lightning as pl

from sizemix.data.batches import Batch
from sizemix.sizes.plan import SizePlan

_WARM_UP_STEPS, _STEPS = 10, 50


class ExpectedEnd(pl.Callback):
    """Prints the expected end once the first 50 steps of this process are done.

    The time of steps 11 to 50 is taken to be in proportion to their compute, so that sizes which come later, or more
    often, count as what they cost. Validation and the final evaluation come on top.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._since = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Counts whole steps; looks at the clock behind the tenth and the fiftieth."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        done = trainer.global_step
        if self._first is None:
            self._first = done - 1
        if done == self._first + _WARM_UP_STEPS:
            self._since = time.perf_counter()
        elif done == self._first + _STEPS and trainer.is_global_zero:
            plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
            left = seconds_left(
                plan, since=done - _STEPS + _WARM_UP_STEPS, done=done, seconds=time.perf_counter() - self._since
            )
            if left:
                _say(trainer, left)


def seconds_left(plan: SizePlan, *, since: int, done: int, seconds: float) -> float:
    """Seconds of the steps from done to the end, when those from since to done took so many.

    Args:
        plan: of the run.
        since: number of a step.
        done: number of a later step, the next one.
        seconds: between them.
    """
    inputs = plan.inputs
    cost_of_size = {
        size: shape.global_batch_size * shape.num_repeats * inputs.cost[size] for size, shape in inputs.shapes.items()
    }
    costs = np.array([cost_of_size[size] for size in plan.columns()["image_size"].tolist()])
    return float(seconds * costs[done:].sum() / costs[since:done].sum())


def _say(trainer: pl.Trainer, seconds: float) -> None:
    left = timedelta(seconds=round(seconds))
    end = datetime.now() + left
    day = "" if end.date() == datetime.now().date() else f"{end:%A %d %B}, "
    text = f"Training is expected to end at {day}{end:%H:%M} (in {left}), validation not counted."
    bar = trainer.progress_bar_callback
    if bar is None:
        print(text, flush=True)
    else:
        bar.print(text)
