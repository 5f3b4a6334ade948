"""How steady answers are when an object looks larger or smaller, or moves by a pixel."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sizemix.data.batches import NOT_SHOWN, Batch
from sizemix.data.datamodule import SizedDataModule
from sizemix.evaluation.cost import Autocast
from sizemix.evaluation.curve import renumbered
from sizemix.models.batchnorm import Statistics, evaluating, holding

SCALES = (0.5, 0.71, 1.41, 2.0)  # of an object's side, in steps of the root of two
_SHIFTS = ((0, 1), (1, 0), (1, 2), (2, 1))  # from the middle, (1, 1), of an image that is two pixels larger


@dataclass(frozen=True)
class Robustness:
    """Of the test images at one input size, with the statistics of that size.

    Attributes:
        image_size: side in pixels of what the network sees.
        top1_by_scale: fraction correct by the factor of an object's apparent side: the image is resized by the factor
            and its middle is shown, or it is shown with a border of the mean colour.
        shift_consistency: fraction of one-pixel shifts (left, right, up, down) that leave the answer as it is, cut from
            an image that is two pixels larger; after Shifman and Weiss 2024, "Lost in Translation" (arXiv 2404.07153).
    """

    image_size: int
    top1_by_scale: Mapping[float, float]
    shift_consistency: float

    def row(self) -> dict[str, float]:
        """One flat row for robustness.csv."""
        scales = {f"top1_at_{scale:g}x": top1 for scale, top1 in self.top1_by_scale.items()}
        return {"image_size": self.image_size, **scales, "shift_consistency": self.shift_consistency}


def robustness(
    net: nn.Module,
    datamodule: SizedDataModule,
    *,
    image_sizes: Sequence[int],
    statistics: Mapping[int, Statistics],
    autocast: Autocast,
    outputs: Sequence[int] | None = None,
    scales: Sequence[float] = SCALES,
    show_progress: bool = True,
) -> list[Robustness]:
    """Shows every test image at every size in several scales and shifts; leaves the network as it was.

    Args:
        net: images to logits, on the device of the datamodule's trainer.
        datamodule: attached to a trainer of one device.
        image_sizes: sides in pixels.
        statistics: of batch norms, by image_size; empty where the network has none.
        autocast: makes the context of the precision.
        outputs: for each class of the data the network's output; None: they are the same.
        scales: factors of an object's side.
        show_progress: a progress bar with the current size.
    """
    bar = tqdm(list(image_sizes), desc="Scales and shifts", unit="size", disable=None if show_progress else True)
    with evaluating(net), torch.no_grad(), autocast():
        return [_at_size(net, datamodule, size, statistics.get(size, {}), scales, outputs) for size in bar]


def _at_size(
    net: nn.Module,
    datamodule: SizedDataModule,
    image_size: int,
    statistics: Statistics,
    scales: Sequence[float],
    outputs: Sequence[int] | None,
) -> Robustness:
    right = dict.fromkeys(scales, 0)
    alike, num_images = 0, 0
    shown = {max(1, round(scale * image_size)): scale for scale in scales}
    larger = image_size + 2
    with holding(net, statistics) if statistics else nullcontext():
        batches = datamodule.eval_batches("test", *sorted({*shown, larger}))
        for batch in renumbered(batches, outputs):
            if batch.image_size in shown:
                right[shown[batch.image_size]] += _right(net, batch, image_size)
            if batch.image_size == larger:
                alike += _alike(net, batch.images[batch.targets != NOT_SHOWN], image_size)
                num_images += int((batch.targets != NOT_SHOWN).sum())
    top1 = {scale: number / num_images for scale, number in right.items()}
    return Robustness(image_size, top1, alike / (num_images * len(_SHIFTS)))


def _right(net: nn.Module, batch: Batch, image_size: int) -> int:
    return int((net(_fitted(batch.images, image_size)).argmax(1) == batch.targets).sum())


def _alike(net: nn.Module, larger: Tensor, image_size: int) -> int:
    """Shifted images (batch, 3, image_size + 2, image_size + 2) that get the answer of the one in the middle."""

    def answers(top: int, left: int) -> Tensor:
        part = larger[:, :, top : top + image_size, left : left + image_size]
        answer: Tensor = net(part.contiguous(memory_format=torch.channels_last)).argmax(1)
        return answer

    middle = answers(1, 1)
    return sum(int((answers(top, left) == middle).sum()) for top, left in _SHIFTS)


def _fitted(images: Tensor, image_size: int) -> Tensor:
    """The middle of larger images, or smaller ones with a border of 0, the mean colour."""
    missing = image_size - images.shape[-1]
    before, after = missing // 2, missing - missing // 2
    fitted = F.pad(images, (before, after, before, after))  # a negative number of pixels cuts
    return fitted.contiguous(memory_format=torch.channels_last)
