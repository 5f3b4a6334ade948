"""Trains only a part of the network in the last epochs, as FixRes does behind ordinary training."""

import pytorch_lightning as pl
from torch.optim import Optimizer

from sizemix.data.batches import Batch
from sizemix.models.trainable import TrainedPart


class LateFreezing(pl.Callback):
    """Leaves all but a part of the network as it is in the last epochs.

    Gradients of the rest are computed and dropped, as DDP does not allow that parameters come and go. It stands before
    what looks at the norm of the gradients.

    Args:
        part: what goes on training.
        num_epochs: last epochs of the run.
    """

    def __init__(self, part: TrainedPart, *, num_epochs: int) -> None:
        self._trained = {id(parameter) for parameter in part.parameters}
        self._frozen_norms = part.frozen_norms
        self._num_epochs = num_epochs

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Keeps the statistics of frozen layers; at every step, as a run may go on within an epoch."""
        if self._freezes(trainer):
            for norm in self._frozen_norms:
                norm.eval()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """An optimizer passes over parameters without a gradient: no decay, no momentum."""
        if self._freezes(trainer):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if id(parameter) not in self._trained:
                        parameter.grad = None

    def _freezes(self, trainer: pl.Trainer) -> bool:
        assert trainer.max_epochs is not None
        return trainer.current_epoch >= trainer.max_epochs - self._num_epochs
