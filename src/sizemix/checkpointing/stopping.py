"""Ends training behind the step in which a signal came, with a checkpoint of that step."""

import signal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from sizemix.checkpointing.last import LastCheckpoint, ends_within_epoch
from sizemix.checkpointing.signals import BY_WEIGHT, Interrupted, StopSignals
from sizemix.data.batches import Batch

_ALONE = "Stopping after this step; once more stops at once."
_TOGETHER = "Stopping after the next step that is logged; once more stops at once."


class StopBehindStep(Checkpoint):
    """Saves and ends the run once a signal has come and its step is whole.

    Several ranks agree on the step, whichever of them got the signal; as that costs a message, only at steps that are
    logged. A signal during validation waits for the save of the epoch's end.

    A subclass of Checkpoint, and behind LastCheckpoint: Lightning calls it last.

    Args:
        signals: of this process.
        last: saves.
        log_every_steps: the trainer's logging interval, optimizer steps.
    """

    def __init__(self, signals: StopSignals, last: LastCheckpoint, *, log_every_steps: int) -> None:
        self._signals = signals
        self._last = last
        self._log_every_steps = log_every_steps

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leaves the signals to us."""
        # Lightning would put its handlers over ours when training begins ...
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        # ... and asks rank 0 before every batch whether those have seen SIGTERM, which makes the device wait.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on there is something to save."""
        announcement = _ALONE if trainer.world_size == 1 else _TOGETHER
        self._signals.wait_for_step(announcement if trainer.is_global_zero else None)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Ends the run if a signal has come and the step is whole; not on an epoch's last step, see LastCheckpoint."""
        if not ends_within_epoch(trainer, batch_idx):
            return
        if trainer.world_size > 1 and trainer.global_step % self._log_every_steps:
            return
        number = self._agreed(trainer)
        if number is not None:
            self._last.save_within_epoch(trainer, at_the_end=True)
            self._end(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends the run if a signal has come; LastCheckpoint has saved."""
        number = self._agreed(trainer)
        if number is not None:
            self._end(number)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on nothing is left to save."""
        self._signals.stop_waiting()

    def _agreed(self, trainer: pl.Trainer) -> signal.Signals | None:
        """The signal that any rank has received; of several, the weightiest."""
        received = self._signals.received
        if trainer.world_size == 1:
            return received
        weight = torch.tensor(BY_WEIGHT.index(received) if received else -1, device=trainer.strategy.root_device)
        agreed = int(trainer.strategy.reduce(weight, reduce_op="max"))
        return BY_WEIGHT[agreed] if agreed >= 0 else None

    def _end(self, number: signal.Signals) -> None:
        self._signals.end()
        raise Interrupted(number, on_all_ranks=True)
