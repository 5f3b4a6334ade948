"""Whether a cascade beats a single size: chosen on validation predictions, judged on test predictions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from sizemix.errors import UserError
from sizemix.evaluation.advice import Difference, difference
from sizemix.evaluation.cascade import CascadeOutcome, CascadePlan, outcome
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.pareto import pareto_front
from sizemix.evaluation.predictions import Predictions

_CANDIDATES = {2: 40, 3: 12}  # parts of the images between the thresholds that are tried, by the number of stages
_PLACES = 6  # decimals of a threshold

_WHENCE = ", what the most accurate single size takes"


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
        return f"A cascade does not pay here: the best ({self.test.plan}) gives {against} {judged}; deploy one size."

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
    known = [_scored(outcome(val, by_size, plan)) for plan in _plans(val, num_stages=num_stages)]
    front = [known[at].plan for at in pareto_front([one.gflops for one in known], [one.top1 for one in known])]
    budgets = _front_gflops(val, by_size) if max_gflops is None else [max_gflops]
    contests = [
        _contest(best.plan, val, test, by_size, max_gflops=budget)
        for budget in budgets
        if (best := _best_within(known, budget)) is not None
    ]
    if not contests:
        least = min(one.most_gflops for one in known)
        raise UserError(
            f"expected a budget that a cascade of {_listed(val.image_sizes)} px keeps, got {max(budgets):.3g} GFLOPs"
            f"{_WHENCE if max_gflops is None else ''}; give --max-gflops {1.01 * least:.3g} or more, or evaluate "
            "smaller sizes."
        )
    return CascadeStudy(
        curve=tuple(outcome(test, by_size, plan) for plan in front),
        curve_val=tuple(outcome(val, by_size, plan) for plan in front),
        contests=tuple(contests),
        chosen=max(contests, key=lambda one: one.expected.points - one.expected.half_width),
    )


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


@dataclass(frozen=True)
class _Scored:
    """A plan on validation images, without the answers to each of them: there are thousands of plans."""

    plan: CascadePlan
    top1: float
    gflops: float
    most_gflops: float


def _scored(val: CascadeOutcome) -> _Scored:
    return _Scored(val.plan, val.top1, val.gflops, val.gflops + val.gflops_half_width)


def _best_within(known: Sequence[_Scored], max_gflops: float) -> _Scored | None:
    """The most accurate whose mean cost is surely no higher, so that it is not on other images either."""
    allowed = [one for one in known if one.most_gflops <= max_gflops]
    return max(allowed, key=lambda one: (one.top1, -one.gflops), default=None)


def _contest(
    plan: CascadePlan, val: Predictions, test: Predictions, costs: Mapping[int, SizeCost], *, max_gflops: float
) -> Contest:
    top1 = dict(zip(val.image_sizes, val.correct.mean(1).tolist(), strict=True))
    affordable = [size for size in val.image_sizes if costs[size].gflops <= max_gflops]
    rival = max(affordable, key=lambda size: (top1[size], -costs[size].gflops))
    row = val.image_sizes.index(rival)
    best, judged = (outcome(predictions, costs, plan) for predictions in (val, test))
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
