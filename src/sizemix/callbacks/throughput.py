"""Images a second."""

import time

import pytorch_lightning as pl
import torch

from sizemix.callbacks.logged import is_logged
from sizemix.data.batches import Batch


class Throughput(pl.Callback):
    """Logs how many augmented images a second pass through training, copies counted, over all ranks.

    Measured from one logged step to the next, so that no device is made to wait in between. Validation is left out;
    a checkpoint saved in between is not.
    """

    def __init__(self) -> None:
        self._images = 0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts counting anew, behind validation."""
        self._images, self._since = 0, None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Counts the batch; logs where Lightning logs."""
        self._images += len(batch.targets) * trainer.world_size
        if self._since is None:  # the first batch of an epoch includes the start of workers
            self._images, self._since = 0, time.perf_counter()
        elif is_logged(trainer, batch_idx):
            elapsed = time.perf_counter() - self._since
            pl_module.log("throughput/images_per_second", torch.tensor(self._images / elapsed), batch_size=1)
            self._images, self._since = 0, time.perf_counter()
