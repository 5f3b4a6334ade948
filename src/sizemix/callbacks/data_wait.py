"""How long training waits for its data, by image size."""

import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from sizemix.data.batches import Batch
from sizemix.data.loader import StepLoader


@dataclass(frozen=True)
class Wait:
    """Time of all steps at one size.

    Attributes:
        image_size: side in pixels.
        waited_seconds: from asking for a batch to having it.
        step_seconds: from asking for a batch to the end of its step.
    """

    image_size: int
    waited_seconds: float
    step_seconds: float

    @property
    def share(self) -> float:
        """The part of a step's time that is spent waiting."""
        return self.waited_seconds / self.step_seconds


class DataWait(pl.Callback):
    """Adds up waiting and step times of this rank, over all processes that a resumed run takes.

    The clock of the host is read and no device is made to wait: where data is the wall, the device is idle anyway, and
    where it is not, the host runs ahead of it and soon takes as long as it does. Validation and checkpoints are not
    counted.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[float, float]] = {}

    @property
    def waits(self) -> list[Wait]:
        """One a size that has been trained at, by size."""
        return [Wait(size, *seconds) for size, seconds in sorted(self._seconds.items())]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Counts the step."""
        loader = trainer.train_dataloader
        assert isinstance(loader, StepLoader)
        waited, whole = self._seconds.get(batch.image_size, (0.0, 0.0))
        since_asked = time.perf_counter() - loader.asked_at
        self._seconds[batch.image_size] = (waited + loader.served_at - loader.asked_at, whole + since_asked)

    def state_dict(self) -> dict[str, Any]:
        """What has been counted."""
        return {"seconds": dict(self._seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._seconds = dict(state_dict["seconds"])
