"""An averaged network: a second one of the same structure, which no optimizer touches."""

import copy

import torch
from torch import nn


class RunningAverage:
    """Moves an averaged network towards another one, batch-norm statistics included.

    Holds on to the tensors of both, as finding them takes longer than the average: make a new one where a network has
    been moved to another device.

    Args:
        averaged: holds the average, changed in place.
        net: a network of the same structure.
    """

    def __init__(self, averaged: nn.Module, net: nn.Module) -> None:
        pairs = list(zip(averaged.state_dict().values(), net.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    def add(self, *, weight: float) -> None:
        """Counts it in: a <- (1 - weight) a + weight w; counters are copied.

        Args:
            weight: of the other network, 0 to 1.
        """
        with torch.no_grad():
            torch._foreach_lerp_([mean for mean, _ in self._floats], [value for _, value in self._floats], weight)
            if self._counters:
                torch._foreach_copy_([ours for ours, _ in self._counters], [theirs for _, theirs in self._counters])


def averaged_copy(net: nn.Module) -> nn.Module:
    """A network of its own with the same weights, which no optimizer changes."""
    return copy.deepcopy(net).requires_grad_(False)
