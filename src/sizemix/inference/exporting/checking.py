"""Whether what has been written answers as the run's network does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sizemix.errors import UserError

TOLERANCE = 1e-3  # of the largest logit; kernels add in other orders
_LEAST_LOGIT = 0.01  # where all are smaller, they are compared with this


@dataclass(frozen=True)
class Checked:
    """An export that agrees with its network.

    Attributes:
        image_sizes: sides in pixels that were tried.
        largest_difference: of two logits, in parts of the largest of a batch.
        refused: sides that the network takes and the export does not.
    """

    image_sizes: tuple[int, ...]
    largest_difference: float
    refused: tuple[int, ...] = ()

    def __str__(self) -> str:
        sizes = ", ".join(map(str, sorted(self.image_sizes)))
        differ = f"logits differ by {self.largest_difference:.1g} of the largest, {TOLERANCE:g} is allowed"
        but = f"; not for {', '.join(map(str, sorted(self.refused)))} px" if self.refused else ""
        return f"checked at {sizes} px: {differ}{but}"


def check(net: nn.Module, exported: Callable[[Tensor], Tensor], image_sizes: Sequence[int], *, name: str) -> Checked:
    """Compares logits on random images, in batches of 1 to 3 at one size after the other.

    Args:
        net: the run's network.
        exported: what has been read from the files again; likewise images to logits.
        image_sizes: sides in pixels.
        name: what the message calls the export.

    Raises:
        UserError: they differ by more than TOLERANCE.
    """
    largest = 0.0
    generator = torch.Generator().manual_seed(0)
    for place, size in enumerate(image_sizes):
        images = torch.randn(1 + place % 3, 3, size, size, generator=generator)
        with torch.inference_mode():
            expected = net(images)
        found = exported(images)
        deviation = float((found - expected).abs().max() / expected.abs().max().clamp(min=_LEAST_LOGIT))
        if not deviation <= TOLERANCE:  # nor nan
            raise UserError(
                f"expected {name} to agree with the run's network within {TOLERANCE:g} of its largest logit, got a "
                f"difference of {deviation:.2g} at {size} px; nothing is written, take another --format."
            )
        largest = max(largest, deviation)
    return Checked(tuple(image_sizes), largest)


def agrees(net: nn.Module, exported: Callable[[Tensor], Tensor], image_size: int) -> bool:
    """Whether an export answers at a size as its network does, where it may as well fail there."""
    try:
        check(net, exported, [image_size], name="it")
    except Exception:  # whatever a runtime raises on shapes that do not fit
        return False
    return True
