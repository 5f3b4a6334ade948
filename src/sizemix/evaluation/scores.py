"""Figures of accuracy from predictions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torchmetrics.functional.classification import binary_calibration_error

from sizemix.evaluation.predictions import Answers, Predictions

_BINS = 15  # of the calibration error, as Guo et al. have them
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Scores:
    """How good answers are at one size.

    Attributes:
        top1: fraction correct.
        top5: fraction whose class is among the five most probable.
        balanced: mean over the classes of the fraction correct; classes without images are left out.
        loss: mean cross-entropy.
        calibration_error: expected calibration error, from 0 to 1: the mean distance of confidence and accuracy over 15
            equal bins of confidence (Guo et al. 2017, arXiv 1706.04599, equation 3).
    """

    top1: float
    top5: float
    balanced: float
    loss: float
    calibration_error: float


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy at one size.

    Attributes:
        image_size: side in pixels.
        num_images: of the split.
        plain: with the statistics of training.
        recalibrated: with batch norms recalibrated for this size; None where the network has no batch norms.
        interval: of the best top-1, 95 %: what other images of the kind would give (Wilson 1927).
    """

    image_size: int
    num_images: int
    plain: Scores
    recalibrated: Scores | None
    interval: tuple[float, float]

    @property
    def best(self) -> Scores:
        """Recalibrated where there is a choice."""
        return self.plain if self.recalibrated is None else self.recalibrated

    def row(self) -> dict[str, float | None]:
        """One flat row for curve.csv and summary.json; the names of recalibrated figures end so."""
        recalibrated = (
            {name: None for name in vars(self.plain)} if self.recalibrated is None else vars(self.recalibrated)
        )
        return {
            "image_size": self.image_size,
            "num_images": self.num_images,
            **vars(self.plain),
            **{f"{name}_recalibrated": value for name, value in recalibrated.items()},
            "top1_low": self.interval[0],
            "top1_high": self.interval[1],
        }


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


def curve_points(predictions: Predictions) -> list[CurvePoint]:
    """The curve: one point a size."""
    targets = predictions.targets
    return [
        CurvePoint(
            image_size,
            len(targets),
            _scores(predictions.plain, targets, at),
            None if predictions.recalibrated is None else _scores(predictions.recalibrated, targets, at),
            top1_interval(int(predictions.correct[at].sum()), len(targets)),
        )
        for at, image_size in enumerate(predictions.image_sizes)
    ]


def class_accuracies(predictions: Predictions) -> list[ClassAccuracy]:
    """One for each size and class that has images."""
    images = np.bincount(predictions.targets)
    return [
        ClassAccuracy(image_size, number, int(images[number]), float(correct[number] / images[number]))
        for image_size, right in zip(predictions.image_sizes, predictions.correct, strict=True)
        for correct in [np.bincount(predictions.targets[right], minlength=len(images))]
        for number in np.flatnonzero(images).tolist()
    ]


def top1_interval(correct: int, num_images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction."""
    interval = binomtest(correct, num_images).proportion_ci(_CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _scores(answers: Answers, targets: NDArray[np.int32], at: int) -> Scores:
    correct = answers.predicted[at] == targets
    return Scores(
        top1=float(correct.mean()),
        top5=float(answers.in_top5[at].mean()),
        balanced=_balanced(correct, targets),
        loss=float(answers.loss[at].mean(dtype=np.float64)),
        calibration_error=_calibration_error(answers.confidence[at], correct),
    )


def _balanced(correct: NDArray[np.bool_], targets: NDArray[np.int32]) -> float:
    images = np.bincount(targets)
    recognised = np.bincount(targets[correct], minlength=len(images))
    return float((recognised[images > 0] / images[images > 0]).mean())


def _calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    # A rounding error above 1 would be taken for a logit.
    probabilities = torch.from_numpy(confidence.clip(0, 1))
    return float(binary_calibration_error(probabilities, torch.from_numpy(correct).long(), n_bins=_BINS))
