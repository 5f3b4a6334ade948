"""Plans the run before it starts, and watches that every batch follows the plan."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import pytorch_lightning as pl
import torch

from sizemix.callbacks.logged import is_logged
from sizemix.data.batches import Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.errors import UserError
from sizemix.sizes.budget import MEMORY
from sizemix.sizes.plan import SizePlan, plan_run
from sizemix.sizes.schedule import SizeSchedule


class Fitting(Protocol):
    """Finds out what fits into memory; callbacks.fitting_batches.FittingBatches is one."""

    def __call__(self, trainer: pl.Trainer, *, image_sizes: Iterable[int], num_images: int) -> Mapping[int, int]:
        """The local batch that fits at each size."""


class SizeScheduler(pl.Callback):
    """Gives the datamodule its plan; during training it checks and logs the size of batches and changes nothing.

    Args:
        schedule: which sizes with which shares.
        budget: what a step spends at a size: constant, B+, D+, B+D+ or memory.
        base_size: size in pixels that the budget scales from.
        base_batch_size: source images of a step at the base size, over all ranks and micro-batches.
        seed: seed of sizes, images and augmentation.
        share_of: what the shares count: images, steps or compute.
        cost: training cost of an image by size; None counts pixels.
        last_epoch: the part of a pass that the last epoch makes.
        fitting: with the budget memory, finds out what fits.

    Raises:
        UserError: the budget memory without it.
    """

    def __init__(
        self,
        schedule: SizeSchedule,
        *,
        budget: str,
        base_size: int,
        base_batch_size: int,
        seed: int,
        share_of: str = "images",
        cost: Mapping[int, float] | None = None,
        last_epoch: float = 1.0,
        fitting: Fitting | None = None,
    ) -> None:
        if budget == MEMORY and fitting is None:
            raise UserError("SizeScheduler: expected fitting=FittingBatches(net) for the budget memory, got none.")
        self._schedule = schedule
        self._budget = budget
        self._base_size = base_size
        self._base_batch_size = base_batch_size
        self._seed = seed
        self._share_of = share_of
        self._cost = cost
        self._last_epoch = last_epoch
        self._fitting = fitting if budget == MEMORY else None

    def plan(
        self,
        *,
        num_images: int,
        num_epochs: int,
        world_size: int = 1,
        micro_batches: int = 1,
        fitting: Mapping[int, int] | None = None,
    ) -> SizePlan:
        """The run's plan; the same on every rank.

        Args:
            num_images: of a pass.
            num_epochs: of the run.
            world_size: ranks.
            micro_batches: of a step.
            fitting: with the budget memory, the local batch that fits at each size.
        """
        return plan_run(
            self._schedule,
            budget=self._budget,
            base_size=self._base_size,
            base_batch_size=self._base_batch_size,
            num_images=num_images,
            num_epochs=num_epochs,
            seed=self._seed,
            num_shards=world_size * micro_batches,
            share_of=self._share_of,
            cost=self._cost,
            last_epoch=self._last_epoch,
            fitting=fitting,
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hands the plan over; Lightning calls this before it makes a loader or an optimizer."""
        # Epochs differ in length, and Lightning asks for a loader's length only when it may be another loader.
        trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[attr-defined]
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, SizedDataModule), "SizeScheduler works with a SizedDataModule"
        assert trainer.max_epochs is not None, "a plan needs trainer.max_epochs"
        self._micro_batches = trainer.accumulate_grad_batches
        num_images, sizes = datamodule.num_images, self._schedule.image_sizes
        measure = self._fitting
        fitting = None if measure is None else measure(trainer, image_sizes=sizes, num_images=num_images)
        self.planned = self.plan(
            num_images=num_images,
            num_epochs=trainer.max_epochs,
            world_size=trainer.world_size,
            micro_batches=self._micro_batches,
            fitting=fitting,
        )
        datamodule.use_plan(self.planned)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Checks the batch against the plan.

        Raises:
            RuntimeError: a batch that the plan has elsewhere, which would mean that images were skipped or repeated.
        """
        step, micro = divmod(batch.item if batch.item is not None else -1, self._micro_batches)
        spec = self.planned.spec(trainer.global_step)
        images = spec.global_batch_size * spec.num_repeats // (trainer.world_size * self._micro_batches)
        expected = (trainer.global_step, batch_idx % self._micro_batches, (images, 3, spec.image_size, spec.image_size))
        if (step, micro, tuple(batch.images.shape)) != expected:
            raise RuntimeError(
                f"the plan wants (step, micro-batch, shape) {expected}, the loader gave "
                f"{(step, micro, tuple(batch.images.shape))}"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Logs the size."""
        if is_logged(trainer, batch_idx):
            # A tensor on the CPU: Lightning would copy a plain number to the device and wait for it.
            pl_module.log("train/image_size", torch.tensor(float(batch.image_size)), batch_size=len(batch.targets))
