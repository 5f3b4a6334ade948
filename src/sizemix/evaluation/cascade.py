"""Cascades: every image small first, and larger only where the answer is unsure. What they bring against one size.

Plans are chosen on validation predictions and judged on test predictions; nothing runs a network here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from sizemix.errors import UserError
from sizemix.evaluation.advice import Difference, difference
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.pareto import pareto_front
from sizemix.evaluation.predictions import Predictions

_CANDIDATES = {2: 40, 3: 12}  # thresholds of a stage that are tried, by the number of stages
_PLACES = 6  # decimals of a threshold
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
            f"{size} px, below {limit:.3g} " for size, limit in zip(self.image_sizes, self.thresholds, strict=False)
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


@dataclass(frozen=True, eq=False)
class Contest:
    """The best cascade for a budget against the best single size for it, both chosen on validation images.

    Attributes:
        max_gflops: the budget.
        rival: the single size, pixels.
        val: the cascade on validation images.
        test: and on test images.
        expected: its top-1 minus the rival's on validation images, where it was chosen among many: too good.
        difference: the same on test images, which judge.
        rival_top1: of test images, from 0 to 1.
        rival_cost: of an image.
    """

    max_gflops: float
    rival: int
    val: CascadeOutcome
    test: CascadeOutcome
    expected: Difference
    difference: Difference
    rival_top1: float
    rival_cost: SizeCost

    @property
    def pays(self) -> bool:
        """Whether the cascade beats the rival beyond noise, for no more than the budget."""
        return self.difference.points > self.difference.half_width and self.test.gflops <= self.max_gflops

    @property
    def sentence(self) -> str:
        """The verdict, to be shown."""
        against = f"{self.difference} against {self.rival} px for {self._pace}"
        judged = f"(chosen on {len(self.val.correct):,} validation images, judged on {len(self.test.correct):,} others)"
        if self.pays:
            return f"A cascade pays: {self.test.plan}: {against} {judged}."
        return f"A cascade does not pay here: the best, {self.test.plan}, gives {against} {judged}; deploy one size."

    @property
    def _pace(self) -> str:
        times = f"{self.test.gflops / self.rival_cost.gflops:.2f} x its GFLOPs"
        if self.test.latency_ms is None or not self.rival_cost.latency_ms:
            return times
        return f"{times} and {self.test.latency_ms / self.rival_cost.latency_ms:.2f} x its time"


@dataclass(frozen=True, eq=False)
class CascadeStudy:
    """All that is worth knowing of a network's cascades.

    Attributes:
        curve: the plans that no other beats on validation images in mean GFLOPs and top-1, as they do on test images.
        curve_val: the same on validation images.
        contests: one for each budget.
        chosen: the one of them with the largest sure gain on validation images; its test figures are the verdict.
    """

    curve: tuple[CascadeOutcome, ...]
    curve_val: tuple[CascadeOutcome, ...]
    contests: tuple[Contest, ...]
    chosen: Contest


def study(
    val: Predictions,
    test: Predictions,
    costs: Sequence[SizeCost],
    *,
    num_stages: int = 2,
    max_gflops: float | None = None,
) -> CascadeStudy:
    """Looks for cascades that beat single sizes.

    Args:
        val: what chooses.
        test: what judges.
        costs: one a size.
        num_stages: sizes of the longest cascade, 2 or 3.
        max_gflops: mean of an image; None: every single size on the Pareto front is a budget.

    Raises:
        UserError: too few sizes or images, or a budget that no cascade keeps.
    """
    by_size = {cost.image_size: cost for cost in costs}
    _check(val, test, by_size)
    known = [outcome(val, by_size, plan) for plan in _plans(val, num_stages=num_stages)]
    front = [known[at] for at in pareto_front([one.gflops for one in known], [one.top1 for one in known])]
    budgets = _front_gflops(val, by_size) if max_gflops is None else [max_gflops]
    contests = [
        _contest(best, val, test, by_size, max_gflops=budget)
        for budget in budgets
        if (best := _best_within(known, budget)) is not None
    ]
    if not contests:
        least = min(one.gflops + one.gflops_half_width for one in known)
        raise UserError(
            f"expected a budget that a cascade of {_listed(val.image_sizes)} px keeps, got {max(budgets):.3g} GFLOPs; "
            f"give at least {least:.3g}, or evaluate smaller sizes."
        )
    return CascadeStudy(
        curve=tuple(outcome(test, by_size, one.plan) for one in front),
        curve_val=tuple(front),
        contests=tuple(contests),
        chosen=max(contests, key=lambda one: one.expected.points - one.expected.half_width),
    )


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


def _check(val: Predictions, test: Predictions, costs: Mapping[int, SizeCost]) -> None:
    again = "run `sizemix evaluate` again"
    if val.image_sizes != test.image_sizes or set(val.image_sizes) != set(costs):
        raise UserError(
            f"expected predictions and costs of the same sizes, got {_listed(val.image_sizes)} px (validation), "
            f"{_listed(test.image_sizes)} px (test) and {_listed(costs)} px (costs); {again}."
        )
    if len(costs) < 2:
        raise UserError(f"a cascade needs two sizes, got {_listed(costs)} px; evaluate more by evaluation.eval_sizes.")
    if not len(val.targets) or not len(test.targets):
        raise UserError(f"a cascade is chosen on validation images and judged on test images, got none; {again}.")


def _plans(val: Predictions, *, num_stages: int) -> Iterator[CascadePlan]:
    """Every growing choice of sizes, with thresholds that part the validation images into about equal groups."""
    sizes = sorted(val.image_sizes)
    for length in range(2, num_stages + 1):
        parts = np.linspace(0, 1, _CANDIDATES[length] + 1)[1:-1]
        confidence = dict(zip(val.image_sizes, val.best.confidence, strict=True))
        thresholds = {
            size: np.unique(np.quantile(confidence[size].astype(np.float64), parts).round(_PLACES)).tolist()
            for size in sizes
        }
        for chosen in combinations(sizes, length):
            for limits in product(*(thresholds[size] for size in chosen[:-1])):
                yield CascadePlan(chosen, limits)


def _front_gflops(val: Predictions, costs: Mapping[int, SizeCost]) -> list[float]:
    gflops = [costs[size].gflops for size in val.image_sizes]
    return [gflops[at] for at in pareto_front(gflops, val.correct.mean(1).tolist())]


def _best_within(known: Sequence[CascadeOutcome], max_gflops: float) -> CascadeOutcome | None:
    """The most accurate whose mean cost is surely no higher, so that it is not on other images either."""
    allowed = [one for one in known if one.gflops + one.gflops_half_width <= max_gflops]
    return max(allowed, key=lambda one: (one.top1, -one.gflops), default=None)


def _contest(
    best: CascadeOutcome, val: Predictions, test: Predictions, costs: Mapping[int, SizeCost], *, max_gflops: float
) -> Contest:
    top1 = dict(zip(val.image_sizes, val.correct.mean(1).tolist(), strict=True))
    affordable = [size for size in val.image_sizes if costs[size].gflops <= max_gflops]
    rival = max(affordable, key=lambda size: (top1[size], -costs[size].gflops))
    row = val.image_sizes.index(rival)
    judged = outcome(test, costs, best.plan)
    return Contest(
        max_gflops,
        rival,
        best,
        judged,
        expected=difference(best.correct, val.correct[row]),
        difference=difference(judged.correct, test.correct[row]),
        rival_top1=float(test.correct[row].mean()),
        rival_cost=costs[rival],
    )


def _listed(image_sizes: Sequence[int] | Mapping[int, SizeCost]) -> str:
    return ", ".join(map(str, image_sizes))
