"""Loss and learning rate of logged steps."""

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch.optim import Optimizer

from sizemix.callbacks.logged import is_logged
from sizemix.data.batches import Batch


class StepFigures(pl.Callback):
    """Logs ImageClassifier's cross-entropy, and the learning rate that the step was made with.

    A callback, because those that save behind a step, with its row of metrics.csv, run before the module's own hooks.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Notes the learning rate; behind the step it is the next one's."""
        self._lr = max(group["lr"] for group in optimizer.param_groups)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Logs both."""
        if is_logged(trainer, batch_idx):
            assert isinstance(outputs, Mapping)
            pl_module.log("train/loss", outputs["cross_entropy"], batch_size=len(batch.targets))
            # On the CPU, as Lightning would copy a plain number to the device and wait for it.
            pl_module.log("train/lr", torch.tensor(self._lr), batch_size=len(batch.targets))
