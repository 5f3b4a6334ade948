"""Batch-norm recalibration: the statistics of image sizes, put into a network for as long as they are needed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers that keep running statistics; timm's fused ones are among them."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; every module's own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


Statistics = list[Tensor]  # the buffers of a network's batch norms, in their order


@contextmanager
def holding(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, the batch norms hold these statistics; afterwards their own again."""
    with _kept(model) as buffers:
        _load(buffers, statistics)
        yield


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Inside, the batch norms hold the statistics of the given images; afterwards the network is as it was.

    Args:
        model: any network; without batch norms nothing happens.
        batches: normalised images (batch, 3, image_size, image_size), batches of equal size.

    Raises:
        ValueError: no batches.
    """
    if not batch_norms(model):
        yield
        return
    measured = measured_statistics(model, ((0, images) for images in batches))
    if not measured:
        raise ValueError("recalibration needs at least one batch of images")
    with evaluating(model), holding(model, measured[0]):
        yield


def measured_statistics(model: nn.Module, batches: Iterable[tuple[int, Tensor]]) -> dict[int, Statistics]:
    """Statistics of several image sizes, side by side; the network is left as it was.

    They are the plain mean over the batches of a size (cumulative average; Hoffer et al. 2019, arXiv 1908.08986, on
    calibrating batch norms for a test size). Only batch norms are in train mode meanwhile, so that dropout and
    stochastic depth stay off.

    Args:
        model: a network with batch norms.
        batches: image sizes and normalised images (batch, 3, image_size, image_size), in any order, batches of a size
            equally large.
    """
    measured: dict[int, Statistics] = {}
    with _kept(model) as buffers, _averaging_over_batches(model), torch.no_grad():
        fresh = _copied(buffers)
        for image_size, images in batches:
            _load(buffers, measured.get(image_size, fresh))
            model(images)
            measured[image_size] = _copied(buffers)
    return measured


@contextmanager
def _averaging_over_batches(model: nn.Module) -> Iterator[None]:
    """Inside, the batch norms alone are in train mode, and begin a cumulative average, uncompiled.

    Compiled, it would be a new graph for every batch: its factor is a Python number.
    """
    layers = batch_norms(model)
    momenta = [layer.momentum for layer in layers]
    with evaluating(model), torch.compiler.set_stance("force_eager"):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # torch's sign for a cumulative average
            layer.train()
        try:
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


@contextmanager
def _kept(model: nn.Module) -> Iterator[list[Tensor]]:
    """The buffers of the batch norms; their values are afterwards what they were."""
    buffers = [buffer for layer in batch_norms(model) for buffer in layer.buffers()]
    before = _copied(buffers)
    try:
        yield buffers
    finally:
        _load(buffers, before)


def _copied(buffers: list[Tensor]) -> Statistics:
    return [buffer.clone() for buffer in buffers]


def _load(buffers: list[Tensor], statistics: Statistics) -> None:
    with torch.no_grad():
        for buffer, value in zip(buffers, statistics, strict=True):
            buffer.copy_(value)
