"""Looks at what the configuration says of devices and sizes, which most other checks need."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import nn

from sizemix.callbacks.fitting_batches import FittingBatches
from sizemix.data.sources import DataSource
from sizemix.diagnosis.finding import Check, Finding, carried_out
from sizemix.diagnosis.machine import BFLOAT16_SINCE
from sizemix.sizes.budget import MEMORY, StepShape, step_shapes
from sizemix.sizes.schedule import MixedSizes, SizeSchedule
from sizemix.training.assembly import idle_trainer
from sizemix.training.plan_inputs import images_of, size_schedule


@dataclass(frozen=True)
class Setting:
    """On what and in which portions a run trains.

    Attributes:
        config: the run's.
        trainer: never started; knows device, precision and shards.
        schedule: the training sizes.
        shapes: what a step holds at each of them.
    """

    config: DictConfig
    trainer: pl.Trainer
    schedule: SizeSchedule
    shapes: Mapping[int, StepShape]

    @property
    def device(self) -> torch.device:
        """Of the first process."""
        return self.trainer.strategy.root_device

    @property
    def num_shards(self) -> int:
        """Ranks times micro-batches."""
        return self.trainer.world_size * self.trainer.accumulate_grad_batches

    @property
    def local_images(self) -> dict[int, int]:
        """Images of one device's micro-batch by image_size, copies counted."""
        return {
            size: shape.global_batch_size * shape.num_repeats // self.num_shards for size, shape in self.shapes.items()
        }

    @property
    def measured_sizes(self) -> list[int]:
        """The smallest training size, the one next to the base size, and the largest."""
        base = min(self.shapes, key=lambda size: abs(size - self.config.sizes.base_size))
        return sorted({min(self.shapes), base, max(self.shapes)})


def look_at_setting(
    config: DictConfig, dataset: DataSource | None, net: nn.Module | None, found: list[Finding]
) -> Setting:
    """What the configuration says; where that does not fit, one CPU, or the base size alone, for the other checks.

    Args:
        config: the run's.
        dataset: for sizes.budget=memory, whose batches follow from it and the network; None: it could not be opened.
        net: likewise; None: it could not be built.
        found: gets the findings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice to use other devices
        trainer = carried_out(_check_devices(config), found, subject="devices")
        trainer = trainer or pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    sizes = carried_out(_check_sizes(config, trainer, dataset, net), found, subject="sizes")
    base_size, num_images = config.sizes.base_size, config.recipe.base_batch_size
    schedule, shapes = sizes or (MixedSizes((base_size,), (1.0,)), {base_size: StepShape(num_images, 1)})
    return Setting(config, trainer, schedule, shapes)


def _check_devices(config: DictConfig) -> Check[pl.Trainer]:
    """Also whether the precision suits them."""
    trainer = idle_trainer(config)
    device, precision = trainer.strategy.root_device, str(trainer.precision)
    bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE
    remedy = None
    if device.type == "cuda" and precision == "bf16-mixed" and not bfloat16:
        remedy = "expected a GPU that computes in bfloat16, got one that imitates it; set trainer.precision=16-mixed."
    elif bfloat16 and precision == "32-true":
        remedy = "this GPU trains faster in bfloat16 than in 32 bits; set trainer.precision=bf16-mixed."
    text = f"{trainer.world_size} x {device.type}, {precision}"
    yield Finding("trains on", text, "warning" if remedy else "ok", remedy)
    return trainer


def _check_sizes(
    config: DictConfig, trainer: pl.Trainer, dataset: DataSource | None, net: nn.Module | None
) -> Check[tuple[SizeSchedule, Mapping[int, StepShape]] | None]:
    schedule, fitting = size_schedule(config), None
    if config.sizes.budget == MEMORY:
        if dataset is None or net is None:
            return None
        num_images = images_of(config, dataset).num_images
        fitting = FittingBatches(net)(trainer, image_sizes=schedule.image_sizes, num_images=num_images)
    shapes = step_shapes(
        schedule.image_sizes,
        budget=config.sizes.budget,
        base_size=config.sizes.base_size,
        base_batch_size=config.recipe.base_batch_size,
        num_shards=trainer.world_size * trainer.accumulate_grad_batches,
        fitting=fitting,
    )
    steps = (
        f"{shape.global_batch_size}{f' x {shape.num_repeats} copies' if shape.num_repeats > 1 else ''} at {size} px"
        for size, shape in shapes.items()
    )
    yield Finding("steps", f"images: {', '.join(steps)}")
    return schedule, shapes
