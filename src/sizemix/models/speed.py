"""Measures what training steps of several image sizes take on a device."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn
from tqdm import tqdm

from sizemix.models.steps import Autocast, forward_and_backward, random_images

_WARM_UP_STEPS = {"cpu": 1}  # an accelerator chooses and loads its kernels in the first few
_WARM_UP_STEPS_ELSEWHERE = 3
_CPU_FLOPS = 3e10  # of a measured step, under a second on any CPU


@dataclass(frozen=True)
class StepSpeed:
    """One optimizer step at one size, without the optimizer.

    Attributes:
        num_images: images of the step, copies counted.
        seconds: median of the measured steps.
        peak_bytes: most memory that tensors took on the device, network included; None where it is no CUDA device.
    """

    num_images: int
    seconds: float
    peak_bytes: int | None

    @property
    def images_per_second(self) -> float:
        """Images over seconds."""
        return self.num_images / self.seconds


def measured_steps(
    net: nn.Module,
    image_sizes: Mapping[int, int],
    *,
    device: torch.device,
    autocast: Autocast,
    num_steps: int = 3,
) -> dict[int, StepSpeed]:
    """Runs forward and backward passes of a copy of a network; leaves it and the random state as they are.

    Each size is warmed up (one step on the CPU, three elsewhere), then measured step by step, from an idle device to
    an idle device. Images are random and on the device already. What optimizer, loss scaling and logging take is not
    in the figures; nor is compilation, so that they are those of model.compile=false.

    Args:
        net: the network, on any device; frozen parameters get no gradient, as in training.
        image_sizes: image_size in pixels to the images of one local micro-batch, copies counted.
        device: where to measure.
        autocast: makes the context of the run's precision.
        num_steps: measured steps at each size.

    Returns:
        The speed by image_size.

    Raises:
        torch.cuda.OutOfMemoryError: a step does not fit; models.memory.check_memory tells that beforehand.
    """
    twin = copy.deepcopy(net).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        sizes = tqdm(image_sizes.items(), desc="Measuring steps", unit="size", leave=False, disable=None)
        return {
            size: _measured(twin, size, num_images, device=device, autocast=autocast, num_steps=num_steps)
            for size, num_images in sizes
        }


def affordable_images(
    image_sizes: Mapping[int, int], *, flops: Mapping[int, float], device: torch.device
) -> dict[int, int]:
    """As many images as can be measured in about a second a step: on a CPU, whose pace hardly depends on the batch.

    Args:
        image_sizes: image_size in pixels to the images of one local micro-batch, copies counted.
        flops: of training on one image, by image_size.
        device: where to measure; any but a CPU gets the whole batches.
    """
    if device.type != "cpu":
        return dict(image_sizes)
    return {size: min(number, max(2, int(_CPU_FLOPS / flops[size]))) for size, number in image_sizes.items()}


def _measured(
    net: nn.Module,
    image_size: int,
    num_images: int,
    *,
    device: torch.device,
    autocast: Autocast,
    num_steps: int,
) -> StepSpeed:
    images = random_images(num_images, image_size, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    warm_up = _WARM_UP_STEPS.get(device.type, _WARM_UP_STEPS_ELSEWHERE)
    for _ in range(warm_up + num_steps):
        _wait_for(device)
        start = time.perf_counter()
        net.zero_grad()
        forward_and_backward(net, images, autocast=autocast)
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    peak_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return StepSpeed(num_images, median(seconds[warm_up:]), peak_bytes)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
