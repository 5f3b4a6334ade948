"""The curve: top-1 by image size, with training statistics and with recalibrated ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
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
        balanced: mean over the classes of the fraction correct, likewise.
        balanced_recalibrated: likewise.
    """

    image_size: int
    num_images: int
    top1: float
    top1_recalibrated: float | None
    balanced: float
    balanced_recalibrated: float | None


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy for one class at one size, recalibrated where the network has batch norms.

    Attributes:
        image_size: side in pixels.
        class_number: the class.
        num_images: test images of the class.
        top1: fraction of them that is recognised.
    """

    image_size: int
    class_number: int
    num_images: int
    top1: float


@dataclass(frozen=True)
class Curve:
    """What evaluation at many sizes gives.

    Attributes:
        points: one a size.
        classes: one a size and class of which there are test images.
    """

    points: list[CurvePoint]
    classes: list[ClassAccuracy]


def accuracy_curve(
    net: nn.Module,
    *,
    eval_sizes: Sequence[int],
    num_classes: int,
    test_batches: Callable[[int], Iterable[Batch]],
    calibration_batches: Callable[[int], Iterable[Batch]],
    show_progress: bool = True,
) -> Curve:
    """Evaluates at every size and leaves the network as it was.

    Args:
        net: images to logits.
        eval_sizes: sides in pixels.
        num_classes: width of the logits.
        test_batches: normalised test images at a size.
        calibration_batches: normalised training images at a size.
        show_progress: a progress bar with the current size.
    """
    has_statistics = bool(batch_norms(net))
    curve = Curve([], [])
    bar = tqdm(eval_sizes, desc="Evaluating", unit="size", disable=not show_progress)
    for size in bar:
        bar.set_postfix_str(f"{size} px")
        plain = _hits(net, test_batches(size), num_classes)
        tuned = None
        if has_statistics:
            bar.set_postfix_str(f"{size} px, recalibrated")
            with recalibrated(net, (batch.images for batch in calibration_batches(size))):
                tuned = _hits(net, test_batches(size), num_classes)
        curve.points.append(
            CurvePoint(
                size,
                plain.num_images,
                plain.top1,
                None if tuned is None else tuned.top1,
                plain.balanced,
                None if tuned is None else tuned.balanced,
            )
        )
        curve.classes.extend((tuned or plain).by_class(size))
    return curve


@dataclass(frozen=True)
class _Hits:
    """Images and correct answers by class, (num_classes,) each."""

    images: Tensor
    correct: Tensor

    @property
    def num_images(self) -> int:
        return int(self.images.sum())

    @property
    def top1(self) -> float:
        return self.correct.sum().item() / self.num_images

    @property
    def balanced(self) -> float:
        """The mean over those classes of which there are images."""
        there = self.images > 0
        return (self.correct[there] / self.images[there]).mean().item()

    def by_class(self, image_size: int) -> list[ClassAccuracy]:
        counts = zip(self.images.tolist(), self.correct.tolist(), strict=True)
        return [
            ClassAccuracy(image_size, number, images, correct / images)
            for number, (images, correct) in enumerate(counts)
            if images
        ]


def _hits(net: nn.Module, batches: Iterable[Batch], num_classes: int) -> _Hits:
    images, correct = (torch.zeros(num_classes, dtype=torch.int64) for _ in range(2))
    with evaluating(net), torch.no_grad():
        for batch in batches:
            images, correct = images.to(batch.targets.device), correct.to(batch.targets.device)
            right = batch.targets[net(batch.images).argmax(1) == batch.targets]
            images += torch.bincount(batch.targets, minlength=num_classes)
            correct += torch.bincount(right, minlength=num_classes)
    return _Hits(images.cpu(), correct.cpu())
