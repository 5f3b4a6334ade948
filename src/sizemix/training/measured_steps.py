"""Measures a run's steps on its device before the run."""

from collections.abc import Mapping

import pytorch_lightning as pl
from torch import nn

from sizemix.callbacks.memory_check import sharing_ranks
from sizemix.models.memory import check_memory, optimizer_bytes
from sizemix.models.speed import affordable_images, measured_steps
from sizemix.sizes.spending import MeasuredStep


def steps_on_device(
    net: nn.Module,
    trainer: pl.Trainer,
    *,
    local_images: Mapping[int, int],
    micro_batches: int,
    flops: Mapping[int, float],
) -> dict[int, MeasuredStep]:
    """What a step of each size takes, once the largest has been shown to fit.

    Args:
        net: as it will train.
        trainer: knows device and precision; need not be started.
        local_images: image_size to the images of one local micro-batch, copies counted.
        micro_batches: of a step.
        flops: of training on one image, by image_size.

    Raises:
        UserError: no memory for the largest step.
    """
    device, autocast = trainer.strategy.root_device, trainer.precision_plugin.forward_context
    together = {size: sharing_ranks(trainer) * number for size, number in local_images.items()}
    check_memory(net, image_sizes=together, device=device, autocast=autocast)
    affordable = affordable_images(local_images, flops=flops, device=device)
    speeds = measured_steps(net, affordable, device=device, autocast=autocast)
    kept = optimizer_bytes(net)
    return {
        size: MeasuredStep(
            seconds=micro_batches * local_images[size] / speed.images_per_second,
            peak_bytes=None if speed.peak_bytes is None else speed.peak_bytes + kept,
        )
        for size, speed in speeds.items()
    }
