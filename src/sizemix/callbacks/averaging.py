"""Weight averaging by images seen: an exponential moving average beside the trained network, never swapped with it."""

from typing import Any

import pytorch_lightning as pl

from sizemix.data.batches import Batch
from sizemix.errors import UserError
from sizemix.models.averaging import RunningAverage
from sizemix.sizes.plan import SizePlan


class WeightAveraging(pl.Callback):
    """Updates the classifier's averaged network after every optimizer step.

    The past loses half of its weight in half_life passes over the images, however many steps those take: steps of
    different batches then count by their images. In the beginning the average is the plain mean, so that it does not
    hang on to the initial weights.

    Args:
        half_life: passes over the training images.

    Raises:
        UserError: a half-life that is not positive.
    """

    def __init__(self, half_life: float) -> None:
        if not half_life > 0:
            raise UserError(f"recipe.averaging_half_life: expected passes over the images, or null, got {half_life}.")
        self._half_life = half_life

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Finds the tensors; both networks are on the device, and restored."""
        net: Any = pl_module.net
        averaged: Any = pl_module.averaged
        self._average = RunningAverage(averaged, net)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Counts the step in once it is whole."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            weight = self.weight_of(trainer.global_step - 1, _plan(trainer))
            self._average.add(weight=weight)

    def weight_of(self, step: int, plan: SizePlan) -> float:
        """What the weights behind a step count in the average."""
        seen = plan.images_before(step + 1)
        images = seen - plan.images_before(step)
        kept: float = 0.5 ** (images / (self._half_life * plan.inputs.num_images))
        return max(1 - kept, images / seen)


def _plan(trainer: pl.Trainer) -> SizePlan:
    plan: SizePlan = trainer.datamodule.plan  # type: ignore[attr-defined]
    return plan
