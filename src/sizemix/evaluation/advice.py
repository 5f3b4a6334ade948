"""Which size to deploy: chosen on validation data, told with what it gives up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sizemix.errors import UserError
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.predictions import Predictions

_TWO_SIDED = float(norm.ppf(0.975))
_COARSE_POINTS = 5.0  # where even larger differences could not be seen, the sentence says so


@dataclass(frozen=True)
class Wish:
    """What a deployment asks for; None: nothing.

    Attributes:
        max_latency_ms: of one image, milliseconds.
        max_gflops: of the forward pass of one image.
        min_top1: of validation images, from 0 to 1.
    """

    max_latency_ms: float | None = None
    max_gflops: float | None = None
    min_top1: float | None = None


NO_WISH = Wish()


@dataclass(frozen=True)
class Difference:
    """Top-1 of one size minus that of another, on the same images.

    Attributes:
        points: percentage points.
        half_width: of its 95 % interval, percentage points.
    """

    points: float
    half_width: float

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds no difference at all."""
        return abs(self.points) <= self.half_width

    def __str__(self) -> str:
        return f"{self.points:+.1f} ± {self.half_width:.1f} points"


@dataclass(frozen=True)
class Advice:
    """The size to deploy.

    Attributes:
        image_size: side in pixels.
        reference_size: what it is compared with, pixels.
        top1: of validation images, from 0 to 1.
        difference: to the reference size.
        relative_gflops: its GFLOPs over the reference's.
        times_faster: the reference's latency over its own; None where latencies were not measured.
        alike: other sizes whose accuracy is within noise of the most accurate that the wish allows; they are not
            ranked, and the cheapest of all of these is advised.
        num_images: validation images.
    """

    image_size: int
    reference_size: int
    top1: float
    difference: Difference
    relative_gflops: float
    times_faster: float | None
    alike: tuple[int, ...]
    num_images: int

    @property
    def sentence(self) -> str:
        """All of it, to be shown."""
        others = f"; no different within noise, for more GFLOPs: {_listed(self.alike)} px" if self.alike else ""
        least = self.difference.half_width
        few = f", too few to see less than {least:.0f} points" if least > _COARSE_POINTS else ""
        chosen = f"(chosen on {self.num_images:,} validation images{few}{others})"
        if self.image_size == self.reference_size:
            return f"Deploy at {self.image_size} px: {self.top1:.1%} {chosen}."
        against = f"{self.difference} against {self.reference_size} px"
        return f"Deploy at {self.image_size} px: {against}, {self._pace} {chosen}."

    @property
    def _pace(self) -> str:
        gflops = f"{self.relative_gflops:.2f} x the GFLOPs"
        if self.times_faster is None:
            return gflops
        slower = self.times_faster < 1
        pace = f"{1 / self.times_faster:.2f} x slower" if slower else f"{self.times_faster:.2f} x faster"
        return f"{gflops}, {pace}"


def advise(predictions: Predictions, costs: Sequence[SizeCost], *, reference_size: int, wish: Wish = NO_WISH) -> Advice:
    """The cheapest size that is as accurate, within noise, as the most accurate one; with min_top1 the cheapest of all.

    Cheap is what takes few GFLOPs, which do not change from one measurement to the next.

    Args:
        predictions: of validation images, never of test images.
        costs: one a size.
        reference_size: what the sentence compares with; one of the sizes.
        wish: what the size must fulfil.

    Raises:
        UserError: no size fulfils the wish; names what the nearest gives.
    """
    by_size = {cost.image_size: cost for cost in costs}
    top1 = dict(zip(predictions.image_sizes, predictions.correct.mean(1).tolist(), strict=True))
    allowed = _allowed(by_size, top1, wish)
    right = dict(zip(predictions.image_sizes, predictions.correct, strict=True))
    cheapest_first = sorted(allowed, key=lambda size: by_size[size].gflops)
    most_accurate = max(cheapest_first, key=lambda size: top1[size])
    level = [size for size in cheapest_first if difference(right[size], right[most_accurate]).within_noise]
    if wish.min_top1 is not None:
        level = cheapest_first[:1]  # anything that is accurate enough will do
    chosen = level[0]
    own, reference = by_size[chosen], by_size[reference_size]
    return Advice(
        chosen,
        reference_size,
        top1[chosen],
        difference(right[chosen], right[reference_size]),
        own.gflops / reference.gflops,
        _times_faster(own, reference),
        tuple(level[1:]),
        len(predictions.targets),
    )


def difference(correct: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Difference:
    """Top-1 minus another on the same images, by the normal approximation for paired differences.

    Args:
        correct: (images,) whether each is right.
        reference: (images,) likewise, of what it is compared with.
    """
    change = correct.astype(np.int8) - reference.astype(np.int8)
    # Without a single image that differs the deviation is 0, which says too much: up to 3 / n may (rule of three).
    half_width = max(_TWO_SIDED * change.std() / math.sqrt(len(change)), 3 / len(change))
    return Difference(100 * float(change.mean()), 100 * float(half_width))


def _allowed(costs: Mapping[int, SizeCost], top1: Mapping[int, float], wish: Wish) -> list[int]:
    allowed = [size for size, cost in costs.items() if _fulfils(cost, top1[size], wish)]
    if allowed:
        return allowed
    latencies = [cost.latency_ms for cost in costs.values() if cost.latency_ms is not None]
    least, most = min(cost.gflops for cost in costs.values()), max(top1.values())
    reach = f"{least:.3g} GFLOPs at least" + (f", {min(latencies):.3g} ms at least" if latencies else "")
    raise UserError(
        f"expected a size with {_wished(wish)}, got none of {_listed(costs)} px: they take {reach}, and reach "
        f"{most:.1%} top-1 at most on validation images; ask for less, or evaluate other sizes."
    )


def _fulfils(cost: SizeCost, top1: float, wish: Wish) -> bool:
    fast = wish.max_latency_ms is None or (cost.latency_ms or math.inf) <= wish.max_latency_ms
    light = wish.max_gflops is None or cost.gflops <= wish.max_gflops
    return fast and light and (wish.min_top1 is None or top1 >= wish.min_top1)


def _wished(wish: Wish) -> str:
    wishes = {
        "at most {:g} ms": wish.max_latency_ms,
        "at most {:g} GFLOPs": wish.max_gflops,
        "at least {:.1%} top-1": wish.min_top1,
    }
    return ", ".join(text.format(value) for text, value in wishes.items() if value is not None)


def _times_faster(cost: SizeCost, reference: SizeCost) -> float | None:
    if cost.latency_ms is None or reference.latency_ms is None:
        return None
    return reference.latency_ms / cost.latency_ms


def _listed(image_sizes: Sequence[int] | Mapping[int, SizeCost]) -> str:
    return ", ".join(map(str, image_sizes))
