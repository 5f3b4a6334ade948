"""The curve: top-1 by image size, with training statistics and with recalibrated ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from sizemix.data.batches import Batch
from sizemix.models.batchnorm import batch_norms, evaluating, recalibrated


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy at one size.

    Attributes:
        image_size: side in pixels.
        num_images: test images.
        top1: fraction correct with the statistics of training.
        top1_recalibrated: fraction correct with batch norms recalibrated for this size; None where the network has
            no batch norms.
    """

    image_size: int
    num_images: int
    top1: float
    top1_recalibrated: float | None


def accuracy_curve(
    net: nn.Module,
    *,
    eval_sizes: Sequence[int],
    test_batches: Callable[[int], Iterable[Batch]],
    calibration_batches: Callable[[int], Iterable[Batch]],
    show_progress: bool = True,
) -> list[CurvePoint]:
    """Evaluates at every size and leaves the network as it was.

    Args:
        net: images to logits.
        eval_sizes: sides in pixels.
        test_batches: normalised test images at a size.
        calibration_batches: normalised training images at a size.
        show_progress: a progress bar with the current size.
    """
    has_statistics = bool(batch_norms(net))
    points = []
    bar = tqdm(eval_sizes, desc="Evaluating", unit="size", disable=not show_progress)
    for size in bar:
        bar.set_postfix_str(f"{size} px")
        top1, num_images = _top1(net, test_batches(size))
        top1_recalibrated = None
        if has_statistics:
            bar.set_postfix_str(f"{size} px, recalibrated")
            with recalibrated(net, (batch.images for batch in calibration_batches(size))):
                top1_recalibrated, _ = _top1(net, test_batches(size))
        points.append(CurvePoint(size, num_images, top1, top1_recalibrated))
    return points


def _top1(net: nn.Module, batches: Iterable[Batch]) -> tuple[float, int]:
    correct, num_images = torch.zeros((), dtype=torch.int64), 0
    with evaluating(net), torch.no_grad():
        for batch in batches:
            hits = (net(batch.images).argmax(1) == batch.targets).sum()
            correct = correct.to(hits.device) + hits
            num_images += len(batch.targets)
    return correct.item() / num_images, num_images
