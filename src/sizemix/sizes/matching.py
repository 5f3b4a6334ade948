"""How long a run must be to spend as much as another: what makes a comparison of size schedules fair."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sizemix.sizes.plan import SizePlan
from sizemix.sizes.spending import spending

Match = Literal["images", "steps", "compute", "time"]

_TRIES = 30  # amounts grow with the length almost in proportion, so a few are enough


@dataclass(frozen=True)
class Length:
    """Of a run.

    Attributes:
        num_epochs: epochs, of which the last may be a part.
        last_epoch: the part of a pass that the last epoch makes, above 0 and at most 1.
    """

    num_epochs: int
    last_epoch: float

    @classmethod
    def of(cls, passes: float, *, least_part: float) -> "Length":
        """So many passes; a last epoch of less than least_part is left out, unless it is the only one."""
        num_epochs = max(1, math.ceil(passes - least_part))
        return cls(num_epochs, min(1.0, max(least_part, passes - (num_epochs - 1))))


def amount(plan: SizePlan, match: Match, *, seconds: Mapping[int, float] | None = None) -> float:
    """What a run spends, in what it is matched by.

    Args:
        plan: the run's.
        match: images (source images), steps, compute (of all augmented images, in the plan's unit) or time.
        seconds: with time, what a step of each size takes.
    """
    if match == "images":
        return plan.images_seen
    if match == "steps":
        return plan.num_steps
    if match == "compute":
        return compute(plan)
    assert seconds is not None, "time needs the seconds of a step"
    return sum(plan.steps_at(size) * seconds[size] for size in plan.image_sizes)


def compute(plan: SizePlan) -> float:
    """Training cost of all augmented images of a run, in the unit of the plan's costs."""
    return spending(plan).relative_cost * plan.images_seen * plan.inputs.cost[plan.inputs.base_size]


def matched_length(
    plan_of: Callable[[Length], SizePlan],
    *,
    target: float,
    amount_of: Callable[[SizePlan], float],
    num_epochs: int,
    least_part: float,
) -> Length:
    """The length at which a run spends nearly as much as another; whole steps leave a difference of about one.

    Args:
        plan_of: the run at a length; its schedule may stretch with it.
        target: what the other run spends.
        amount_of: what a plan spends.
        num_epochs: of the other run, where the search begins.
        least_part: of a pass, that a last epoch must make to have a step.
    """
    passes = float(num_epochs)
    best, difference = Length.of(passes, least_part=least_part), math.inf
    low, high = 0.0, math.inf
    for _ in range(_TRIES):
        length = Length.of(passes, least_part=least_part)
        spent = amount_of(plan_of(length))
        if abs(spent - target) < difference:
            best, difference = length, abs(spent - target)
        if spent < target:
            low = max(low, passes)
        else:
            high = min(high, passes)
        proposed = passes * target / spent
        if not low < proposed < high:  # a proposal that has been tried: between the two that enclose the target
            proposed = (low + high) / 2 if high < math.inf else 2 * low
        if abs(proposed - passes) < least_part / 100:
            break
        passes = proposed
    return best
