"""Batch-norm recalibration: the statistics of a size, put into a network for as long as they are needed."""

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


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Inside, the batch norms hold the statistics of the given images; afterwards the network is as it was.

    The statistics are the plain mean over the batches (cumulative average; Hoffer et al. 2019, arXiv 1908.08986, on
    calibrating batch norms for a test size). Only batch norms are in train mode meanwhile, so that dropout and
    stochastic depth stay off.

    Args:
        model: any network; without batch norms nothing happens.
        batches: normalised images (batch, 3, image_size, image_size), batches of equal size.

    Raises:
        ValueError: no batches.
    """
    layers = batch_norms(model)
    kept = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    with evaluating(model):
        try:
            if layers:
                _measure(model, layers, batches)
            yield
        finally:
            for buffer, value in kept:
                buffer.copy_(value)


def _measure(model: nn.Module, layers: list[_BatchNorm], batches: Iterable[Tensor]) -> None:
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's sign for a cumulative average
        layer.train()
    measured = 0
    try:
        # Compiled, a cumulative average would be a new graph for every batch: its factor is a Python number.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            for images in batches:
                model(images)
                measured += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
    if not measured:
        raise ValueError("recalibration needs at least one batch of images")
