"""What training cost, and after how much of it an arm had reached an accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from sizemix.comparison.arms import Arm
from sizemix.comparison.records import RunRecord

TRAINING_PASSES = 3  # a forward and a backward pass, in forward passes
_PREFIXES = (("EFLOPs", 1e18), ("PFLOPs", 1e15), ("TFLOPs", 1e12), ("GFLOPs", 1e9))


@dataclass(frozen=True)
class ComputeUnit:
    """What the compute of all runs is told in.

    Attributes:
        name: for axes and tables.
        flops: one of the unit; None where it is images at the base size.
    """

    name: str
    flops: float | None

    def of(self, run: RunRecord, images_at_base: float) -> float:
        """An amount of a run's compute in this unit."""
        return images_at_base if self.flops is None else _flops(run, images_at_base) / self.flops


@dataclass(frozen=True)
class CoursePoint:
    """A validation during training.

    Attributes:
        compute: of training so far, in the comparison's unit; None where not known.
        seconds: of training so far; None where not recorded.
        top1: at the base size.
    """

    compute: float | None
    seconds: float | None
    top1: float


@dataclass(frozen=True)
class Spent:
    """What an arm spent on training, means over its runs.

    Attributes:
        steps, images_seen, seconds: of training.
        compute: in the comparison's unit; None where there is none.
    """

    steps: float
    images_seen: float
    compute: float | None
    seconds: float


@dataclass(frozen=True)
class Reaching:
    """When the runs of an arm first had a validation accuracy.

    Attributes:
        compute: by run, where it had it, as a multiple of the baseline's whole training compute; None: not known.
        before: by the same runs, at the validation before that one; 0 if there was none.
        seconds: by run, as a multiple of the baseline's training time; None: not recorded.
        num_runs: that could have reached it.
        best: highest validation accuracy of all runs.
    """

    compute: tuple[float | None, ...]
    before: tuple[float | None, ...]
    seconds: tuple[float | None, ...]
    num_runs: int
    best: float


def compute_unit(arms: Sequence[Arm]) -> ComputeUnit | None:
    """FLOPs where every run knows them; else images at the base size, if that is the same work for all; else None."""
    runs = [run for arm in arms for run in arm.runs]
    if all(run.base_gflops is not None for run in runs):
        most = max(_flops(run, total_compute(run)) for run in runs)
        name, flops = next(((name, flops) for name, flops in _PREFIXES if most >= flops), _PREFIXES[-1])
        return ComputeUnit(name, flops)
    work = {(run.base_size, *_network(run)) for run in runs}
    return ComputeUnit(f"images at {runs[0].base_size} px", None) if len(work) == 1 else None


def spent(arm: Arm, unit: ComputeUnit | None) -> Spent:
    """Adds up an arm."""
    return Spent(
        steps=mean(run.steps for run in arm.runs),
        images_seen=mean(run.images_seen for run in arm.runs),
        compute=None if unit is None else mean(unit.of(run, total_compute(run)) for run in arm.runs),
        seconds=mean(run.training_seconds for run in arm.runs),
    )


def total_compute(run: RunRecord) -> float:
    """Of the steps that were trained, in images at the base size."""
    if run.compute is not None:
        return float(run.compute[-1])
    return run.relative_cost * run.images_planned * run.steps / run.steps_planned


def course(run: RunRecord, unit: ComputeUnit | None) -> list[CoursePoint]:
    """Validation accuracy in the course of training."""
    points = []
    for validation in run.validations:
        compute = None
        if unit is not None and run.compute is not None:
            compute = unit.of(run, float(run.compute[min(validation.steps, len(run.compute) - 1)]))
        points.append(CoursePoint(compute, validation.seconds, validation.top1))
    return points


def final_accuracy(arm: Arm) -> float | None:
    """Mean of the last validations; None where a run has none."""
    finals = [run.validations[-1].top1 for run in arm.runs if run.validations]
    return mean(finals) if len(finals) == len(arm.runs) else None


def reaching(arm: Arm, baseline: Arm, target: float, unit: ComputeUnit | None) -> Reaching | None:
    """When an arm first had an accuracy in validation; None where that was at another size than the baseline's.

    The first validation that is not below the target counts, with no line drawn between validations: a run that is
    validated rarely is late rather than early.
    """
    runs = [run for run in arm.runs if run.validations and run.val_size == baseline.runs[0].val_size]
    if not runs:
        return None
    whole = spent(baseline, unit)
    start = CoursePoint(0.0, 0.0, 0.0)
    courses = [pairwise([start, *course(run, unit)]) for run in runs]
    firsts = [next(((before, point) for before, point in one if point.top1 >= target), None) for one in courses]
    reached = [first for first in firsts if first is not None]
    return Reaching(
        compute=tuple(_ratio(point.compute, whole.compute) for _, point in reached),
        before=tuple(_ratio(before.compute, whole.compute) for before, _ in reached),
        seconds=tuple(_ratio(point.seconds, whole.seconds) for _, point in reached),
        num_runs=len(runs),
        best=max(validation.top1 for run in runs for validation in run.validations),
    )


def _flops(run: RunRecord, images_at_base: float) -> float:
    assert run.base_gflops is not None
    return TRAINING_PASSES * run.base_gflops * 1e9 * images_at_base


def _network(run: RunRecord) -> list[tuple[str, str]]:
    return sorted((name, str(value)) for name, value in run.config.items() if name.startswith("model."))


def _ratio(amount: float | None, whole: float | None) -> float | None:
    return None if amount is None or not whole else amount / whole
