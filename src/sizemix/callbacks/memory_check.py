"""Tries whether the largest step and the largest test batch fit into memory, before anything trains."""

from collections.abc import Mapping

import pytorch_lightning as pl
from torch import nn

from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.models.memory import check_evaluation_memory, check_memory


class MemoryCheck(pl.Callback):
    """Runs the checks of models.memory on the plan's shapes and the evaluation's; goes behind the SizeScheduler.

    Args:
        scheduler: holds the plan.
        evaluated: image_size to the images of a batch, for all sizes of validation and the final evaluation.
    """

    def __init__(self, scheduler: SizeScheduler, *, evaluated: Mapping[int, int]) -> None:
        self._scheduler = scheduler
        self._evaluated = evaluated

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lightning calls this before it makes a loader or an optimizer.

        Raises:
            UserError: the largest step or the largest test batch does not fit.
        """
        shards, sharing = trainer.world_size * trainer.accumulate_grad_batches, sharing_ranks(trainer)
        net, device = pl_module.net, trainer.strategy.root_device
        assert isinstance(net, nn.Module)
        steps = {
            size: sharing * shape.global_batch_size * shape.num_repeats // shards
            for size, shape in self._scheduler.planned.inputs.shapes.items()
        }
        evaluated = {size: sharing * num_images for size, num_images in self._evaluated.items()}
        autocast = trainer.precision_plugin.forward_context
        check_memory(net, image_sizes=steps, device=device, autocast=autocast)
        check_evaluation_memory(net, image_sizes=evaluated, device=device, autocast=autocast)


def sharing_ranks(trainer: pl.Trainer) -> int:
    """Ranks that share one memory: those of a machine, where they train on its CPU."""
    return trainer.num_devices if trainer.strategy.root_device.type == "cpu" else 1
