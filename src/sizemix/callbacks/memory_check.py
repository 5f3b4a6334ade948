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
        device = trainer.strategy.root_device
        sharing = trainer.num_devices if device.type == "cpu" else 1  # processes of one machine share its memory
        shards = trainer.world_size * trainer.accumulate_grad_batches
        check_memory(
            pl_module.net,  # type: ignore[arg-type]
            image_sizes={
                size: sharing * shape.global_batch_size * shape.num_repeats // shards
                for size, shape in self._scheduler.planned.inputs.shapes.items()
            },
            device=device,
            autocast=trainer.precision_plugin.forward_context,
        )
