"""What a plan spends: the realised shares of each size, and the cost of the whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sizemix.sizes.plan import SizePlan


@dataclass(frozen=True)
class SizeSpending:
    """What a whole run spends at one size, as planned (realised, not configured).

    Attributes:
        image_size: side in pixels.
        steps: optimizer steps.
        images: source images, copies not counted.
        image_share: of the run's images.
        step_share: of the run's steps.
        compute_share: of the run's compute, copies counted.
    """

    image_size: int
    steps: int
    images: int
    image_share: float
    step_share: float
    compute_share: float


@dataclass(frozen=True)
class Spending:
    """What a whole run spends.

    Attributes:
        sizes: by increasing image size.
        mean_size: mean side over source images, pixels.
        rms_size: root-mean-square side over source images, pixels.
        relative_cost: compute against showing the same source images once each at the base size. D+ regimes and
            regimes that keep the mean side do not keep the compute.
    """

    sizes: tuple[SizeSpending, ...]
    mean_size: float
    rms_size: float
    relative_cost: float


@dataclass(frozen=True)
class MeasuredStep:
    """One optimizer step at a size, as measured on a device.

    Attributes:
        seconds: forward and backward passes of all its micro-batches, one after another.
        peak_bytes: most memory that tensors took on the device; None where that is not known.
    """

    seconds: float
    peak_bytes: int | None


def forward_gflops(training_flops: float) -> float:
    """GFLOPs of an image's forward pass, a multiply-add being two; training is taken as three times as many."""
    return training_flops / 3e9


def expected_seconds(plan: SizePlan, measured: Mapping[int, MeasuredStep]) -> float:
    """Training steps of the whole run, by the measured step of each size."""
    return sum(plan.steps_at(size) * measured[size].seconds for size in plan.image_sizes)


def spending(plan: SizePlan) -> Spending:
    """Adds up a plan."""
    inputs = plan.inputs
    steps = {size: plan.steps_at(size) for size in plan.image_sizes}
    images = {size: number * inputs.shapes[size].global_batch_size for size, number in steps.items()}
    compute = {size: number * inputs.shapes[size].num_repeats * inputs.cost[size] for size, number in images.items()}
    total = sum(compute.values())
    sizes = tuple(
        SizeSpending(
            image_size=size,
            steps=steps[size],
            images=images[size],
            image_share=images[size] / plan.images_seen,
            step_share=steps[size] / plan.num_steps,
            compute_share=compute[size] / total,
        )
        for size in plan.image_sizes
    )
    return Spending(
        sizes=sizes,
        mean_size=sum(row.image_share * row.image_size for row in sizes),
        rms_size=math.sqrt(sum(row.image_share * row.image_size**2 for row in sizes)),
        relative_cost=total / (plan.images_seen * inputs.cost[inputs.base_size]),
    )
