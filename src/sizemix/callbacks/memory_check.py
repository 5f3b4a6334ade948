"""Tries whether the largest step fits into memory, before anything trains."""

import pytorch_lightning as pl

from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.models.memory import check_memory


class MemoryCheck(pl.Callback):
    """Runs models.memory.check_memory on the plan's shapes; goes behind the SizeScheduler.

    Args:
        scheduler: holds the plan.
    """

    def __init__(self, scheduler: SizeScheduler) -> None:
        self._scheduler = scheduler

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lightning calls this before it makes a loader or an optimizer.

        Raises:
            UserError: the largest step does not fit.
        """
        shards = trainer.world_size * trainer.accumulate_grad_batches
        check_memory(
            pl_module.net,  # type: ignore[arg-type]
            image_sizes={
                size: sharing_ranks(trainer) * shape.global_batch_size * shape.num_repeats // shards
                for size, shape in self._scheduler.planned.inputs.shapes.items()
            },
            device=trainer.strategy.root_device,
            autocast=trainer.precision_plugin.forward_context,
        )


def sharing_ranks(trainer: pl.Trainer) -> int:
    """Ranks that share one memory: those of a machine, where they train on its CPU."""
    return trainer.num_devices if trainer.strategy.root_device.type == "cpu" else 1
