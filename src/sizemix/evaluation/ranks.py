"""Evaluation by several ranks: each looks at its part of the batches, and all know the whole afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed, nn

from sizemix.models.batchnorm import Sums

Item = TypeVar("Item")


def gathered(part: Item) -> list[Item]:
    """Every rank's part, by rank."""
    if not distributed.is_initialized():
        return [part]
    parts: list[Item] = [part] * distributed.get_world_size()
    distributed.all_gather_object(parts, part)
    return parts


def combined(sums: Sums) -> Sums:
    """Adds every rank's sums of statistics, in the order of the ranks, so that all hold the very same."""
    by_rank = gathered({size: total.cpu() for size, total in sums.items()})
    sizes = sorted({size for part in by_rank for size in part})
    return {size: torch.stack([part[size] for part in by_rank if size in part]).sum(0) for size in sizes}


@contextmanager
def on_its_own(net: nn.Module) -> Iterator[None]:
    """Inside, synchronised batch norms look at this rank's images alone: ranks may have unequal numbers of them."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.SyncBatchNorm)]
    groups = [layer.process_group for layer in layers]
    several = bool(layers) and distributed.is_initialized()
    alone = distributed.new_subgroups(1)[0] if several else None  # type: ignore[no-untyped-call]
    try:
        for layer in layers:
            layer.process_group = alone or layer.process_group
        yield
    finally:
        for layer, group in zip(layers, groups, strict=True):
            layer.process_group = group
