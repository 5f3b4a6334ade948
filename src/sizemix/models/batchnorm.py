"""Batch-norm recalibration: the statistics of image sizes, put into a network for as long as they are needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norm layers that keep running statistics; timm's fused ones are among them."""
    return [layer for _, layer in _named_batch_norms(model)]


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


Statistics = Mapping[str, Tensor]  # running means and variances of all batch norms, by their names in the state_dict
Sums = dict[int, Tensor]  # by image_size: how many batches, and the sums of all their statistics; one float64 vector


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running means and variances that a network holds: the buffers themselves, by name."""
    return {
        f"{name}.{kind}": getattr(layer, kind)
        for name, layer in _named_batch_norms(model)
        for kind in ("running_mean", "running_var")
    }


def put(model: nn.Module, statistics: Statistics) -> None:
    """Gives the batch norms these statistics, for good."""
    _load(batch_norm_statistics(model), statistics)


@contextmanager
def holding(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, the batch norms hold these statistics; afterwards their own again."""
    with _kept(model):
        put(model, statistics)
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


def measured_statistics(
    model: nn.Module, batches: Iterable[tuple[int, Tensor]], *, combine: Callable[[Sums], Sums] = dict
) -> dict[int, Statistics]:
    """Statistics of several image sizes, side by side; the network is left as it was.

    They are the plain mean over the batches of a size, in double precision (Hoffer et al. 2019, arXiv 1908.08986, on
    calibrating batch norms for a test size). Only batch norms are in train mode meanwhile, so that dropout and
    stochastic depth stay off.

    Args:
        model: a network with batch norms.
        batches: image sizes and normalised images (batch, 3, image_size, image_size), in any order, batches of a size
            equally large.
        combine: adds the sums of several ranks that have measured different batches.
    """
    sums: Sums = {}
    with _kept(model), _remembering_one_batch(model), torch.no_grad():
        buffers = batch_norm_statistics(model)
        for image_size, images in batches:
            model(images)
            own = torch.cat([images.new_ones(1), *buffers.values()]).to(_precise(images.device), torch.float64)
            sums[image_size] = sums[image_size] + own if image_size in sums else own
        return {image_size: _means(total, buffers) for image_size, total in combine(sums).items()}


def _precise(device: torch.device) -> torch.device:
    """The nearest that adds in double precision, which Apple's GPUs do not."""
    return torch.device("cpu") if device.type == "mps" else device


def _means(total: Tensor, buffers: Statistics) -> Statistics:
    means = torch.split(total[1:] / total[0], [buffer.numel() for buffer in buffers.values()])
    return {name: mean.to(buffer) for (name, buffer), mean in zip(buffers.items(), means, strict=True)}


@contextmanager
def _remembering_one_batch(model: nn.Module) -> Iterator[None]:
    """Inside, the batch norms alone are in train mode and hold the statistics of the newest batch, uncompiled."""
    layers = batch_norms(model)
    momenta = [layer.momentum for layer in layers]
    with evaluating(model), torch.compiler.set_stance("force_eager"):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = 1.0
            layer.train()
        try:
            yield
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    """The buffers of the batch norms are afterwards what they were."""
    buffers = batch_norm_statistics(model) | {
        f"{name}.num_batches_tracked": layer.num_batches_tracked
        for name, layer in _named_batch_norms(model)
        if layer.num_batches_tracked is not None
    }
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        yield
    finally:
        _load(buffers, before)


def _named_batch_norms(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


def _load(buffers: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for floating in (True, False):  # a GPU copies all tensors of one type at once
            names = [name for name, buffer in buffers.items() if buffer.is_floating_point() is floating]
            if names:
                torch._foreach_copy_([buffers[name] for name in names], [values[name] for name in names])
