"""An averaged network: a second one of the same structure, which no optimizer touches."""

import copy

import torch
from torch import nn


def average_into(averaged: nn.Module, net: nn.Module, *, weight: float) -> None:
    """Moves an average towards a network: a <- (1 - weight) a + weight w, batch-norm statistics included.

    Args:
        averaged: holds the average, changed in place.
        net: a network of the same structure.
        weight: of the network, 0 to 1.
    """
    pairs = list(zip(averaged.state_dict().values(), net.state_dict().values(), strict=True))
    floats = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
    torch._foreach_lerp_([mean for mean, _ in floats], [value.detach() for _, value in floats], weight)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


def averaged_copy(net: nn.Module) -> nn.Module:
    """A network of its own with the same weights, which no optimizer changes."""
    return copy.deepcopy(net).requires_grad_(False)
