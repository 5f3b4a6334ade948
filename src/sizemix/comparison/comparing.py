"""Paths of runs in, everything that a report of them says out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizemix.comparison.arms import (
    Arm,
    group_into_arms,
    with_baseline_first,
    without_other_data,
)
from sizemix.comparison.reading import read_run
from sizemix.comparison.records import RunRecord, SetAside
from sizemix.comparison.remarks import remarks
from sizemix.comparison.statistics import CONFIDENCE, Interval, PairedTest, bootstrap_intervals, holm, paired_test
from sizemix.comparison.training import ComputeUnit, Reaching, Spent, compute_unit, final_accuracy, reaching, spent
from sizemix.errors import UserError
from sizemix.runs.discovery import find_runs

DEFAULT_MARGIN = 0.005  # half a point


@dataclass(frozen=True)
class Difference:
    """The test accuracy of an arm less that of the baseline.

    Attributes:
        test: over paired seeds.
        over_images: the bootstrap's, over seeds and test images; None without predictions, or without the former.
    """

    test: PairedTest
    over_images: Interval | None

    @property
    def lower_bound(self) -> float | None:
        """One-sided, by seeds and, where they are known, by test images; None: not known."""
        if self.test.lower_bound is None or self.over_images is None:
            return self.test.lower_bound
        return min(self.test.lower_bound, self.over_images.lower_bound)


@dataclass(frozen=True)
class SizeDifference(Difference):
    """An arm against the baseline at one test size.

    Attributes:
        image_size: pixels.
        adjusted_p: corrected for the number of sizes (Holm); None where there is no test.
    """

    image_size: int
    adjusted_p: float | None

    @property
    def verdict(self) -> str:
        """Better or worse, where neither other seeds nor other test images would say otherwise; else unclear."""
        if self.adjusted_p is None or self.adjusted_p >= 1 - CONFIDENCE:
            return "unclear"
        if self.over_images is not None and self.over_images.low <= 0 <= self.over_images.high:
            return "unclear"
        return "better" if self.test.mean > 0 else "worse"


@dataclass(frozen=True)
class Crossing(Difference):
    """The smallest test size at which an arm is, in the mean, as good as the baseline at its base size.

    Attributes:
        image_size: pixels.
        accuracy: of the arm there, mean over the paired seeds.
        relative_gflops: inference compute of an image against the baseline's at its base size; None where not recorded.
    """

    image_size: int
    accuracy: float
    relative_gflops: float | None


@dataclass(frozen=True)
class Versus:
    """An arm against the baseline.

    Attributes:
        arm: the one.
        seeds: that both have.
        by_size: differences at the sizes that both were tested at, by increasing size.
        crossing: None where the arm is never as good as that, or the base size was not tested.
        reaching: of the baseline's final validation accuracy; None where not known.
    """

    arm: Arm
    seeds: tuple[int, ...]
    by_size: tuple[SizeDifference, ...]
    crossing: Crossing | None
    reaching: Reaching | None

    def at(self, image_size: int) -> SizeDifference | None:
        """The difference at a size; None where it was not tested."""
        return next((one for one in self.by_size if one.image_size == image_size), None)


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        baseline: what the others are compared with.
        others: the other arms against it.
        margin: of "no worse", a fraction of 1.
        unit: of compute; None where runs have none in common.
        target: the baseline's final validation accuracy, mean over its runs; None where not recorded.
        own_reaching: when the baseline's own runs first had that.
        set_aside: folders that take no part.
        remarks: what to know of those that do, as sentences.
    """

    baseline: Arm
    others: tuple[Versus, ...]
    margin: float
    unit: ComputeUnit | None
    target: float | None
    own_reaching: Reaching | None
    set_aside: tuple[SetAside, ...]
    remarks: tuple[str, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The baseline first."""
        return (self.baseline, *(versus.arm for versus in self.others))

    @property
    def base_size(self) -> int:
        """The baseline's, pixels."""
        return self.baseline.base_size

    def spent(self, arm: Arm) -> Spent:
        """What an arm spent on training."""
        return spent(arm, self.unit)


def compare(paths: Sequence[str | Path], *, margin: float = DEFAULT_MARGIN, baseline: str | None = None) -> Comparison:
    """Reads runs and compares their arms.

    Args:
        paths: run folders, or folders with run folders below, as of sweeps.
        margin: loss of accuracy that still counts as "no worse", a fraction of 1.
        baseline: name of the arm that others are compared with, or a part of it; None: training at a single size.

    Raises:
        UserError: a path that is none, a baseline that is none, or fewer than two arms.
    """
    found = [read_run(folder) for folder in find_runs(paths)]
    finished = [one for one in found if isinstance(one, RunRecord)]
    alike, unmatched = without_other_data(finished)
    grouped = group_into_arms(alike)
    arms = grouped.arms
    set_aside = [*(one for one in found if isinstance(one, SetAside)), *unmatched, *grouped.repeated]
    if len(arms) < 2:
        raise UserError(_too_few(arms, set_aside))
    first, *others = with_baseline_first(arms, baseline)
    unit, target = compute_unit(arms), final_accuracy(first)
    return Comparison(
        baseline=first,
        others=tuple(_versus(arm, first, target, unit) for arm in others),
        margin=margin,
        unit=unit,
        target=target,
        own_reaching=None if target is None else reaching(first, first, target, unit),
        set_aside=tuple(set_aside),
        remarks=tuple(remarks(first, others, untold=grouped.untold)),
    )


def _too_few(arms: Sequence[Arm], set_aside: Sequence[SetAside]) -> str:
    what = f"one (runs that differ in nothing but seed: {len(arms[0].runs)})" if arms else "none"
    aside = f" ({'; '.join(f'{one.path}: {one.state}, {one.reason}' for one in set_aside[:3])})" if set_aside else ""
    return f"expected finished runs of at least two arms, got {what}{aside}; train another."


def _versus(arm: Arm, baseline: Arm, target: float | None, unit: ComputeUnit | None) -> Versus:
    seeds = tuple(seed for seed in arm.by_seed if seed in baseline.by_seed)
    pairs = [(arm.by_seed[seed], baseline.by_seed[seed]) for seed in seeds]
    return Versus(
        arm=arm,
        seeds=seeds,
        by_size=_differences(pairs, [size for size in arm.eval_sizes if size in baseline.eval_sizes]) if pairs else (),
        crossing=_crossing(pairs, arm, baseline) if pairs else None,
        reaching=None if target is None else reaching(arm, baseline, target, unit),
    )


_Pairs = Sequence[tuple[RunRecord, RunRecord]]


def _differences(pairs: _Pairs, sizes: Sequence[int]) -> tuple[SizeDifference, ...]:
    tests = [paired_test([own.accuracy[size] - other.accuracy[size] for own, other in pairs]) for size in sizes]
    tested = [test.p_value for test in tests if test.p_value is not None]
    adjusted = iter(holm(tested))
    of_images = _over_images(pairs, [(size, size) for size in sizes]) if tested else {}
    return tuple(
        SizeDifference(test, None, size, None)
        if test.p_value is None
        else SizeDifference(test, of_images.get((size, size)), size, next(adjusted))
        for size, test in zip(sizes, tests, strict=True)
    )


def _over_images(pairs: _Pairs, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Interval]:
    """The bootstrap's intervals, by the arm's size and the baseline's.

    Empty where a run has no predictions, or others' images.
    """
    predictions = [run.predictions for pair in pairs for run in pair]
    known = [one for one in predictions if one is not None]
    if len(known) < len(predictions) or len({(one.image_digest, one.targets.tobytes()) for one in known}) > 1:
        return {}
    common = [place for place in places if all(size in one.image_sizes for size in place for one in known)]
    if not common:
        return {}
    correct = np.array(
        [[one.correct[one.image_sizes.index(place[at % 2])] for place in common] for at, one in enumerate(known)],
        dtype=np.int8,
    )
    return dict(zip(common, bootstrap_intervals(correct[0::2] - correct[1::2]), strict=True))


def _crossing(pairs: _Pairs, arm: Arm, baseline: Arm) -> Crossing | None:
    base = baseline.base_size
    if base not in baseline.eval_sizes:
        return None
    for size in arm.eval_sizes:
        test = paired_test([own.accuracy[size] - other.accuracy[base] for own, other in pairs])
        if test.mean >= 0:
            known = size in arm.gflops and base in baseline.gflops
            relative = arm.gflops[size] / baseline.gflops[base] if known else None
            over_images = None if test.p_value is None else _over_images(pairs, [(size, base)]).get((size, base))
            accuracy = float(np.mean([own.accuracy[size] for own, _ in pairs]))
            return Crossing(test, over_images, size, accuracy, relative)
    return None
