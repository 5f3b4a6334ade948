"""Cascades: every image small first, and larger only where the answer is unsure; what one gives on a split.

Only predictions are read; nothing runs a network here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sizemix.errors import UserError
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.predictions import Predictions

_TWO_SIDED = 1.96


@dataclass(frozen=True)
class CascadePlan:
    """Which size answers.

    Attributes:
        image_sizes: sides in pixels, in the order in which an image is shown.
        thresholds: one for each size but the last: confidence from which on its answer stands.

    Raises:
        UserError: sizes that do not grow, or another number of thresholds.
    """

    image_sizes: tuple[int, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes, thresholds = self.image_sizes, self.thresholds
        if len(sizes) < 2 or any(small >= large for small, large in pairwise(sizes)):
            raise UserError(f"image_sizes: expected two or more that grow, as (128, 224), got {sizes}.")
        if len(thresholds) != len(sizes) - 1:
            raise UserError(
                f"thresholds: expected {len(sizes) - 1}, one for each of {sizes} but the last, got {thresholds}."
            )
        if not all(threshold >= 0 for threshold in thresholds):
            raise UserError(f"thresholds: expected confidences from 0 to 1, got {thresholds}.")

    def __str__(self) -> str:
        steps = (
            f"{size} px, below {limit:.3g}: " for size, limit in zip(self.image_sizes, self.thresholds, strict=False)
        )
        return "".join(steps) + f"{self.image_sizes[-1]} px"


@dataclass(frozen=True, eq=False)
class CascadeOutcome:
    """What a plan gives on a split.

    Attributes:
        plan: the plan.
        stages: (images,) int64, which of its sizes answers.
        correct: (images,) whether the answer is right.
        gflops: mean over the images; an image that is shown twice pays twice.
        gflops_half_width: of the 95 % interval of that mean.
        latency_ms: likewise, of images that are shown one by one; None where it was not measured.
    """

    plan: CascadePlan
    stages: NDArray[np.int64]
    correct: NDArray[np.bool_]
    gflops: float
    gflops_half_width: float
    latency_ms: float | None

    @property
    def top1(self) -> float:
        """From 0 to 1."""
        return float(self.correct.mean())

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the images that each size answers."""
        counts = np.bincount(self.stages, minlength=len(self.plan.image_sizes))
        return tuple((counts / len(self.stages)).tolist())


def outcome(predictions: Predictions, costs: Mapping[int, SizeCost], plan: CascadePlan) -> CascadeOutcome:
    """What a plan gives on a split.

    Args:
        predictions: of all its sizes.
        costs: by size.
        plan: the plan.
    """
    rows = [predictions.image_sizes.index(size) for size in plan.image_sizes]
    stages = answering_stages(predictions.best.confidence[rows[:-1]], plan.thresholds)
    correct = predictions.correct[rows][stages, np.arange(len(stages))]
    paid = np.cumsum([costs[size].gflops for size in plan.image_sizes])[stages]
    latencies = [costs[size].latency_ms for size in plan.image_sizes]
    known = [latency for latency in latencies if latency is not None]
    return CascadeOutcome(
        plan,
        stages,
        correct,
        gflops=float(paid.mean()),
        gflops_half_width=float(_TWO_SIDED * paid.std() / math.sqrt(len(paid))),
        latency_ms=float(np.cumsum(known)[stages].mean()) if len(known) == len(latencies) else None,
    )


def answering_stages(confidence: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """The first stage that is sure enough, or the last.

    Args:
        confidence: (stages but the last, images).
        thresholds: one a stage but the last.
    """
    sure = confidence.astype(np.float64) >= np.asarray(thresholds, np.float64)[:, None]
    always = np.ones((1, confidence.shape[1]), np.bool_)
    first: NDArray[np.int64] = np.concatenate([sure, always]).argmax(0)
    return first
