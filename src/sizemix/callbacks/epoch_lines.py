"""A line for every finished epoch."""

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor

from sizemix.callbacks.logged import is_logged
from sizemix.callbacks.progress import tell
from sizemix.data.batches import Batch
from sizemix.sizes.plan import SizePlan


class EpochLines(pl.Callback):
    """Tells what an epoch gave, in a line that stays; its loss is ImageClassifier's, the mean over the batches.

    Args:
        val_metric: key of the validation accuracy, top-1.
        val_size: image_size of validation, pixels.
    """

    def __init__(self, *, val_metric: str, val_size: int) -> None:
        self._val_metric = val_metric
        self._val_size = val_size
        self._since = 0.0
        self._unread: list[Tensor] = []  # losses, where they are
        self._loss_sum = 0.0
        self._num_batches = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of an epoch that goes on, whose own start Lightning does not tell again."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock, which in a resumed epoch counts this process alone, and the loss."""
        self._since = time.perf_counter()
        self._unread, self._loss_sum, self._num_batches = [], 0.0, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the loss; reads those that were noted where the device is waited for anyway."""
        assert isinstance(outputs, Mapping)
        self._unread.append(outputs["cross_entropy"])
        self._num_batches += 1
        if is_logged(trainer, batch_idx):
            self._read()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells; validation is over by now."""
        if trainer.is_global_zero:
            self._read()
            tell(trainer, self._line(trainer))

    def state_dict(self) -> dict[str, Any]:
        """The loss of a part of an epoch."""
        self._read()
        return {"loss_sum": self._loss_sum, "num_batches": self._num_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with it."""
        self._loss_sum, self._num_batches = state_dict["loss_sum"], state_dict["num_batches"]

    def _read(self) -> None:
        if self._unread:
            self._loss_sum += torch.stack(self._unread).sum().item()
            self._unread = []

    def _line(self, trainer: pl.Trainer) -> str:
        plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        steps = trainer.global_step - sum(plan.epoch_length(earlier) for earlier in range(epoch))
        parts = [f"{steps:,} step{'' if steps == 1 else 's'} at {_sizes(plan, epoch)}"]
        if self._num_batches:
            parts.append(f"loss {self._loss_sum / self._num_batches:.3f}")
        if self._val_metric in trainer.callback_metrics:
            parts.append(f"val top-1 {trainer.callback_metrics[self._val_metric].item():.2%} at {self._val_size} px")
        parts.append(f"{time.perf_counter() - self._since:.0f} s")
        return f"Epoch {epoch + 1}/{plan.num_epochs}: {', '.join(parts)}"


def _sizes(plan: SizePlan, epoch: int) -> str:
    sizes = {size for size in plan.image_sizes if plan.steps_at(size, epoch=epoch)}
    return f"{min(sizes)} px" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)} px"
