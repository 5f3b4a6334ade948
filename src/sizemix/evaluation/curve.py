"""The curve: top-1 by image size, with training statistics and with recalibrated ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sizemix.data.batches import Batch
from sizemix.models.batchnorm import Statistics, batch_norms, evaluating, holding, measured_statistics


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


class Batches(Protocol):
    """Batches of several sizes: as many as its length says."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def accuracy_curve(
    net: nn.Module,
    *,
    eval_sizes: Sequence[int],
    num_classes: int,
    test_batches: Batches,
    calibration_batches: Batches,
    show_progress: bool = True,
) -> Curve:
    """Evaluates at every size and leaves the network as it was.

    The sizes are measured side by side, so that an image need be read only once for all of them.

    Args:
        net: images to logits.
        eval_sizes: sides in pixels.
        num_classes: width of the logits.
        test_batches: normalised test images at these sizes, in any order.
        calibration_batches: normalised training images at these sizes, in any order; read only where the network has
            batch norms.
        show_progress: a progress bar with the current size.
    """
    recalibrate = bool(batch_norms(net))
    total = len(test_batches) + (len(calibration_batches) if recalibrate else 0)
    with tqdm(total=total, desc="Evaluating", unit="batch", disable=not show_progress) as bar:

        def shown(batches: Batches, doing: str) -> Iterator[Batch]:
            for batch in batches:
                bar.set_postfix_str(f"{batch.image_size} px{doing}")
                yield batch
                bar.update()

        statistics: dict[int, Statistics] = {}
        if recalibrate:
            calibration = shown(calibration_batches, ", recalibrating")
            statistics = measured_statistics(net, ((batch.image_size, batch.images) for batch in calibration))
        plain, tuned = ({size: _Hits.none(num_classes) for size in eval_sizes} for _ in range(2))
        with evaluating(net), torch.no_grad():
            for batch in shown(test_batches, ""):
                size = batch.image_size
                plain[size] += _hits(net, batch, num_classes)
                if recalibrate:
                    with holding(net, statistics[size]):
                        tuned[size] += _hits(net, batch, num_classes)
    plain, tuned = ({size: hits.on_host() for size, hits in by_size.items()} for by_size in (plain, tuned))
    points = [_point(size, plain[size], tuned[size] if recalibrate else None) for size in eval_sizes]
    best = tuned if recalibrate else plain
    return Curve(points, [one for size in eval_sizes for one in best[size].by_class(size)])


def _point(image_size: int, plain: "_Hits", tuned: "_Hits | None") -> CurvePoint:
    return CurvePoint(
        image_size,
        plain.num_images,
        plain.top1,
        None if tuned is None else tuned.top1,
        plain.balanced,
        None if tuned is None else tuned.balanced,
    )


@dataclass(frozen=True)
class _Hits:
    """Images and correct answers by class, (num_classes,) each."""

    images: Tensor
    correct: Tensor

    @classmethod
    def none(cls, num_classes: int) -> "_Hits":
        return cls(*(torch.zeros(num_classes, dtype=torch.int64) for _ in range(2)))

    def __add__(self, other: "_Hits") -> "_Hits":
        device = other.images.device  # all but the first are there: no device has to be waited for
        return _Hits(self.images.to(device) + other.images, self.correct.to(device) + other.correct)

    def on_host(self) -> "_Hits":
        return _Hits(self.images.cpu(), self.correct.cpu())

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


def _hits(net: nn.Module, batch: Batch, num_classes: int) -> _Hits:
    right = batch.targets[net(batch.images).argmax(1) == batch.targets]
    return _Hits(*(torch.bincount(targets, minlength=num_classes) for targets in (batch.targets, right)))
