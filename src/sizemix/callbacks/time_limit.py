"""Ends training when its time is over, behind a whole step."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from sizemix.data.batches import Batch


class TimeLimit(pl.Callback):
    """Stops the trainer once a timer has run out; validation and the save of the epoch's end follow.

    Lightning's Timer would stop between the micro-batches of a step, and ask rank 0 for the time before each of them.
    Several ranks ask only at steps that are logged.

    Args:
        timer: with the limit, and told to look only at an epoch's end itself.
        log_every_steps: the trainer's logging interval, optimizer steps.
    """

    def __init__(self, timer: Timer, *, log_every_steps: int) -> None:
        self._timer = timer
        self._log_every_steps = log_every_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Looks at the time behind a whole step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.world_size > 1 and trainer.global_step % self._log_every_steps:
            return
        remaining_seconds = self._timer.time_remaining()
        assert remaining_seconds is not None
        trainer.should_stop = trainer.should_stop or bool(trainer.strategy.broadcast(remaining_seconds <= 0))
