"""What a network costs at each size: counted operations, and measured time on a device."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import quantiles

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sizemix.limits import available_bytes
from sizemix.models.backbone import training_flops
from sizemix.models.memory import evaluation_bytes
from sizemix.sizes.spending import forward_gflops

Autocast = Callable[[], AbstractContextManager[object]]

_WARM_UP, _ROUNDS = 3, 30  # forward passes of one image at each size
_LEAST_ROUNDS, _SECONDS = 5, 3.0  # rounds end early when all sizes together have taken so long
_LARGEST_BATCH, _NO_GAIN = 1024, 1.03  # throughput: batches are doubled until it grows by less than this
_THROUGHPUT_STEPS = 5


@dataclass(frozen=True)
class SizeCost:
    """What a network costs at one size.

    Attributes:
        image_size: side in pixels.
        gflops: of the forward pass of one image, a multiply-add being two; 10^9.
        latency_ms: of one image alone, median milliseconds; None where it was not measured.
        latency_low_ms: the lower quartile.
        latency_high_ms: the upper quartile.
        images_per_second: the throughput of the fastest batch that fits into memory; None where it was not measured.
        throughput_batch: that batch.
    """

    image_size: int
    gflops: float
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    images_per_second: float | None = None
    throughput_batch: int | None = None


def counted_costs(net: nn.Module, image_sizes: Sequence[int], *, name: str) -> list[SizeCost]:
    """GFLOPs alone, from shapes.

    Args:
        net: images to logits; left as it is.
        image_sizes: sides in pixels.
        name: what messages call the network.

    Raises:
        UserError: sizes that the network does not take.
    """
    flops = training_flops(net, image_sizes, name=name)
    return [SizeCost(size, forward_gflops(flops[size])) for size in image_sizes]


def measured_costs(
    net: nn.Module,
    costs: Sequence[SizeCost],
    *,
    device: torch.device,
    autocast: Autocast,
    throughput: bool,
    show_progress: bool = True,
) -> list[SizeCost]:
    """Measures time beside what has been counted, on random images that are on the device already.

    Latency: sizes take turns, so that a machine that becomes slower meets all of them; from an idle device to an idle
    device, after a warm-up of three passes. Throughput: the batch is doubled from 1 while that brings more.

    Args:
        net: images to logits, on any device; left as it is.
        costs: one a size.
        device: where to measure.
        autocast: makes the context of the precision.
        throughput: measure it as well, which takes seconds for each size.
        show_progress: a progress bar with the current size.
    """
    twin = copy.deepcopy(net).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with torch.inference_mode(), autocast():
        latencies = _latencies(twin, [cost.image_size for cost in costs], device=device)
        fastest: Mapping[int, tuple[float, int]] = {}
        if throughput:
            sizes = tqdm(
                [cost.image_size for cost in costs],
                desc="Measuring",
                unit="size",
                disable=None if show_progress else True,
            )
            fastest = {size: _throughput(twin, size, device=device) for size in sizes}
    measured = []
    for cost in costs:
        low, middle, high = quantiles((1000 * one for one in latencies[cost.image_size]), method="inclusive")
        speed, batch = fastest.get(cost.image_size, (None, None))
        measured.append(SizeCost(cost.image_size, cost.gflops, middle, low, high, speed, batch))
    return measured


def _latencies(net: nn.Module, image_sizes: Sequence[int], *, device: torch.device) -> dict[int, list[float]]:
    """Seconds of each pass, by size."""
    images = {size: _images(1, size, device) for size in image_sizes}
    for size in image_sizes:
        for _ in range(_WARM_UP):
            _seconds(net, images[size])
    seconds: dict[int, list[float]] = {size: [] for size in image_sizes}
    start = time.perf_counter()
    for done in range(_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() - start > _SECONDS:
            break
        for size in image_sizes:
            seconds[size].append(_seconds(net, images[size]))
    return seconds


def _throughput(net: nn.Module, image_size: int, *, device: torch.device) -> tuple[float, int]:
    """Images a second, and the batch that gave them."""
    best, best_batch = 0.0, 0
    batch = 1
    while batch <= _LARGEST_BATCH and _fits(net, image_size, batch, device=device):
        try:
            images = _images(batch, image_size, device)
            _seconds(net, images)
            speed = batch / min(_seconds(net, images) for _ in range(_THROUGHPUT_STEPS))
        except RuntimeError:  # out of memory, which every kind of device says in its own way
            if batch == 1:
                raise
            if device.type == "cuda":
                torch.cuda.empty_cache()
            break
        if speed < best * _NO_GAIN:
            break
        best, best_batch, batch = speed, batch, 2 * batch
    return best, best_batch


def _fits(net: nn.Module, image_size: int, batch: int, *, device: torch.device) -> bool:
    """On a CPU by an estimate, as the system would end the process; elsewhere it is tried."""
    return device.type != "cpu" or evaluation_bytes(net, image_size, batch) < available_bytes()


def _images(number: int, image_size: int, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(number, 3, image_size, image_size, generator=generator, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def _seconds(net: nn.Module, images: Tensor) -> float:
    """Of one forward pass, from an idle device to an idle device."""
    _wait_for(images.device)
    start = time.perf_counter()
    net(images)
    _wait_for(images.device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
