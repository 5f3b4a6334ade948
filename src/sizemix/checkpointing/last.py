"""When the newest checkpoint is written."""

import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from sizemix.callbacks.elapsed import ELAPSED_SECONDS
from sizemix.data.batches import Batch
from sizemix.errors import UserError
from sizemix.runs.metrics import MetricsCsv


def ends_within_epoch(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether an optimizer step is whole behind this batch, and another one follows in the epoch."""
    whole_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return whole_step and batch_idx + 1 < trainer.num_training_batches and not trainer.should_stop


def _of_validation(name: str) -> bool:
    return name.startswith("val/") or name == ELAPSED_SECONDS


class LastCheckpoint(Checkpoint):
    """Keeps the newest state and the one before: at every epoch's end, and every so many steps or minutes between.

    A subclass of Checkpoint, which Lightning calls after all other callbacks, so that it saves their newest state.

    Args:
        path: the file; replaced at every save.
        previous: where the replaced one goes.
        metrics: rows of the run; those up to the saved step are written with the checkpoint.
        check: called on all ranks before a save; raises where the state must not take the place of the one before.
        log_every_steps: the trainer's logging interval, optimizer steps.
        every_steps: optimizer steps between saves; None does not count steps.
        every_minutes: minutes between saves; None does not look at the clock.

    Raises:
        UserError: an interval that is not positive.
    """

    def __init__(
        self,
        path: Path,
        *,
        previous: Path,
        metrics: MetricsCsv,
        check: Callable[[pl.Trainer], None],
        log_every_steps: int,
        every_steps: int | None,
        every_minutes: float | None,
    ) -> None:
        for name, interval in (("every_steps", every_steps), ("every_minutes", every_minutes)):
            if interval is not None and interval <= 0:
                raise UserError(f"checkpoint.{name}: expected a positive number or null, got {interval}.")
        self._path = path
        self._previous = previous
        self._metrics = metrics
        self._check = check
        self._log_every_steps = log_every_steps
        self._every_steps = every_steps
        self._every_seconds = None if every_minutes is None else 60 * every_minutes
        self._saved_at = time.monotonic()
        self._saved_step: int | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Saves where an interval has passed: never between the micro-batches of a step.

        Nor on an epoch's last step, as validation and the save of the epoch's end follow at once.
        """
        if ends_within_epoch(trainer, batch_idx) and self._due(trainer):
            self.save_within_epoch(trainer)

    def save_within_epoch(self, trainer: pl.Trainer, *, at_the_end: bool = False) -> None:
        """Saves behind a whole step, unless this step has been saved already; on all ranks.

        Args:
            trainer: of the run.
            at_the_end: whether the run ends with this, so that Lightning logs the step no more.
        """
        if trainer.global_step == self._saved_step:
            return
        self._check(trainer)
        if trainer.global_step % self._log_every_steps == 0:
            # Lightning logs a step behind this hook, and a resumed run would not log it again.
            logged = trainer.logged_metrics  # besides this step's figures those of the last validation
            own = {name: float(value) for name, value in logged.items() if not _of_validation(name)}
            for logger in trainer.loggers if at_the_end else [self._metrics]:
                logger.log_metrics({"epoch": trainer.current_epoch, **own}, step=trainer.global_step - 1)
        self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves; validation is over by now."""
        self._check(trainer)
        self._save(trainer)

    def _due(self, trainer: pl.Trainer) -> bool:
        by_steps = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        together = trainer.world_size > 1
        if self._every_seconds is None or (together and trainer.global_step % self._log_every_steps):
            return by_steps
        by_clock = time.monotonic() - self._saved_at >= self._every_seconds
        return by_steps or bool(
            trainer.strategy.broadcast(by_clock)
        )  # the ranks' clocks differ; now and then, as asking costs a message

    def _save(self, trainer: pl.Trainer) -> None:
        self._metrics.write()
        trainer.save_checkpoint(self._path, weights_only=False, storage_options=self._previous)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
