"""Exact shares: how many steps of an epoch each size gets, the remainder carried on to the next epoch."""

from collections.abc import Mapping
from typing import Literal, get_args

from sizemix.errors import UserError
from sizemix.sizes.budget import StepShape

ShareOf = Literal["images", "steps", "compute"]


def image_shares(
    shares: Mapping[int, float], *, share_of: str, shapes: Mapping[int, StepShape], cost: Mapping[int, float]
) -> dict[int, float]:
    """Shares of source images that give the configured shares of images, steps or compute.

    Args:
        shares: configured share of each size, summing to 1.
        share_of: what a share counts.
        shapes: what a step holds at each size.
        cost: training cost of one augmented image at each size, in any unit.

    Raises:
        UserError: an unknown share_of.
    """
    if share_of not in get_args(ShareOf):
        raise UserError(f"sizes.share_of: expected one of {', '.join(get_args(ShareOf))}, got {share_of!r}.")
    images_of_a_unit: dict[str, dict[int, float]] = {
        "images": dict.fromkeys(shares, 1.0),
        "steps": {size: shapes[size].global_batch_size for size in shares},
        "compute": {size: 1 / (shapes[size].num_repeats * cost[size]) for size in shares},
    }
    weights = {size: share * images_of_a_unit[share_of][size] for size, share in shares.items()}
    total = sum(weights.values())
    return {size: weight / total for size, weight in weights.items()}


def allocate_steps(owed: Mapping[int, float], *, shapes: Mapping[int, StepShape]) -> dict[int, int]:
    """Whole steps of an epoch at each size, by largest remainder.

    Every size gets the steps its owed images fill; then the largest fractions of a step are rounded up as long as
    that brings the total nearer to what is owed. A size that is owed nothing gets none, so no size is ever off by a
    step or more; the epoch's total follows as closely as that allows.

    Args:
        owed: source images owed to each size: its share of this epoch plus what earlier epochs left over; negative
            where an earlier epoch gave too many.
        shapes: what a step holds at each size.
    """
    wanted = {size: images / shapes[size].global_batch_size for size, images in owed.items()}
    steps = {size: max(0, int(number // 1)) for size, number in wanted.items()}
    remaining = sum(owed.values()) - sum(number * shapes[size].global_batch_size for size, number in steps.items())
    for size in sorted(owed, key=lambda size: (steps[size] - wanted[size], size)):
        batch = shapes[size].global_batch_size
        if wanted[size] > steps[size] and batch <= 2 * remaining:
            steps[size] += 1
            remaining -= batch
    return steps
