"""Schedules whose sizes change from epoch to epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sizemix.errors import UserError
from sizemix.sizes.schedule import another_size, chosen_sizes, rounded


@dataclass(frozen=True)
class SizeByEpoch:
    """One size an epoch.

    Args:
        sizes: side in pixels, one an epoch of the run.
    """

    sizes: tuple[int, ...]

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Those that occur, increasing."""
        return tuple(sorted(set(self.sizes)))

    def shares(self, epoch: int) -> Mapping[int, float]:
        """All of an epoch for its size."""
        return {self.sizes[epoch]: 1.0}


@dataclass(frozen=True)
class MovingShares:
    """Several sizes in every epoch, whose weight moves from the smallest to the largest over the run.

    A Gaussian window over the list of sizes, centred on the smallest in the first epoch and on the largest in the
    last, mixed with equal shares; as in timm's progressive schedule, where however the shares are drawn.

    Args:
        image_sizes: sides in pixels, increasing.
        num_epochs: epochs of the run.
        spread: standard deviation of the window, in places of the list.
        uniform_part: part of every epoch that all sizes share equally.

    Raises:
        UserError: a single size or epoch, or a number out of range.
    """

    image_sizes: tuple[int, ...]
    num_epochs: int
    spread: float
    uniform_part: float

    def __post_init__(self) -> None:
        if len(self.image_sizes) < 2:
            raise UserError(f"sizes: expected several sizes to move between, got {list(self.image_sizes)}.")
        _check_epochs(self.num_epochs, 2)
        if not self.spread > 0:
            raise UserError(f"sizes.spread: expected a positive number of places, got {self.spread}.")
        if not 0 <= self.uniform_part <= 1:
            raise UserError(f"sizes.uniform_part: expected a part from 0 to 1, got {self.uniform_part}.")

    def shares(self, epoch: int) -> Mapping[int, float]:
        """Share of every size."""
        places = range(len(self.image_sizes))
        centre = places[-1] * min(1.0, epoch / (self.num_epochs - 1))
        distances = [abs(place - centre) / self.spread for place in places]
        window = [math.exp(-0.5 * (distance**2 - min(distances) ** 2)) for distance in distances]  # never all zero
        equal = self.uniform_part / len(places)
        moving = (1 - self.uniform_part) / sum(window)
        return {size: equal + moving * window[place] for place, size in enumerate(self.image_sizes)}


def stages(
    *,
    base_size: int,
    num_epochs: int,
    image_sizes: Sequence[int] | None = None,
    relative_sizes: Sequence[float] | None = None,
    multiple_of: int = 1,
) -> SizeByEpoch:
    """Equally long stages of growing size (EfficientNetV2: Tan & Le 2021, arXiv 2104.00298, section 4).

    Args:
        base_size: side in pixels that relative_sizes refer to.
        num_epochs: epochs of the run.
        image_sizes: one a stage, in pixels.
        relative_sizes: the same as multiples of base_size, rounded; used where image_sizes is None.
        multiple_of: what every size must be a multiple of.

    Raises:
        UserError: sizes that do not fit, or fewer epochs than stages.
    """
    sizes = chosen_sizes(
        base_size=base_size, image_sizes=image_sizes, relative_sizes=relative_sizes, multiple_of=multiple_of
    )
    _check_epochs(num_epochs, len(sizes))
    return SizeByEpoch(tuple(sizes[epoch * len(sizes) // num_epochs] for epoch in range(num_epochs)))


def ramp(
    *,
    base_size: int,
    num_epochs: int,
    smallest: int | None = None,
    relative_smallest: float = 0.5,
    start: float = 0.0,
    full_size_part: float = 0.2,
    multiple_of: int = 1,
) -> SizeByEpoch:
    """A size that grows in a straight line, then stays at the base size.

    Args:
        base_size: side in pixels that is reached.
        num_epochs: epochs of the run.
        smallest: side in pixels of the beginning; None: relative_smallest of the base size, rounded.
        relative_smallest: used where smallest is None.
        start: fraction of the run at which the size begins to grow.
        full_size_part: last fraction of the run, all of it at the base size.
        multiple_of: what every size must be a multiple of; those between are rounded to it.

    Raises:
        UserError: sizes or fractions that do not fit.
    """
    if not (start >= 0 and 0 < full_size_part < 1 and start + full_size_part <= 1):
        raise UserError(
            "sizes: expected start and full_size_part to be fractions of the run that leave room to grow, "
            f"got {start} and {full_size_part}."
        )
    first = rounded(relative_smallest * base_size, multiple_of) if smallest is None else smallest
    chosen_sizes(base_size=base_size, image_sizes=[first, base_size], relative_sizes=None, multiple_of=multiple_of)
    _check_epochs(num_epochs, 2)
    growing = max(1 - full_size_part - start, 1 / num_epochs)

    def size(epoch: int) -> int:
        way = min(1.0, max(0.0, (epoch / num_epochs - start) / growing))
        return rounded(first + way * (base_size - first), multiple_of)

    return SizeByEpoch((*(size(epoch) for epoch in range(num_epochs - 1)), base_size))


def finetuned(
    *,
    base_size: int,
    num_epochs: int,
    last_part: float | None,
    relative_size: float,
    multiple_of: int = 1,
) -> SizeByEpoch:
    """The base size, and in the last epochs another: FixRes fine-tunes a part of the network at the size of the test.

    (Touvron et al. 2019, arXiv 1906.06423, section 3.3; training.train_only_part freezes the rest in those epochs.)

    Args:
        base_size: side in pixels of the first epochs.
        num_epochs: epochs of the run.
        last_part: of the epochs that have the other size.
        relative_size: the other size as a multiple of base_size, rounded to multiple_of.
        multiple_of: what every size must be a multiple of.

    Raises:
        UserError: sizes or a part that do not fit.
    """
    _check_epochs(num_epochs, 2)
    other = another_size(relative_size, base_size, multiple_of)
    chosen_sizes(base_size=base_size, image_sizes=[base_size], relative_sizes=None, multiple_of=multiple_of)
    last = last_epochs(last_part, num_epochs)
    return SizeByEpoch((base_size,) * (num_epochs - last) + (other,) * last)


def last_epochs(part: float | None, num_epochs: int) -> int:
    """How many epochs the last part of a run has, one at least and not all.

    Raises:
        UserError: no part.
    """
    if part is None or not 0 < part < 1:
        raise UserError(f"training.train_only_part: expected a part of the run, above 0 and under 1, got {part}.")
    return min(num_epochs - 1, max(1, round(part * num_epochs)))


def alternating(
    *,
    base_size: int,
    num_epochs: int,
    image_sizes: Sequence[int] | None = None,
    relative_sizes: Sequence[float] | None = None,
    multiple_of: int = 1,
) -> SizeByEpoch:
    """The sizes in turn, one an epoch (SPP-net: He et al. 2014, arXiv 1406.4729, multi-size training).

    The largest comes in the last epoch. Arguments as in stages.

    Raises:
        UserError: sizes that do not fit, or fewer epochs than sizes.
    """
    sizes = chosen_sizes(
        base_size=base_size, image_sizes=image_sizes, relative_sizes=relative_sizes, multiple_of=multiple_of
    )
    _check_epochs(num_epochs, len(sizes))
    return SizeByEpoch(tuple(sizes[(epoch - num_epochs) % len(sizes)] for epoch in range(num_epochs)))


def moving(
    *,
    base_size: int,
    num_epochs: int,
    image_sizes: Sequence[int] | None = None,
    relative_sizes: Sequence[float] | None = None,
    multiple_of: int = 1,
    spread: float = 0.65,
    uniform_part: float = 0.1,
) -> MovingShares:
    """MovingShares over the user's own sizes, or over sizes generated around the base size; sizes as in stages.

    Raises:
        UserError: sizes or numbers that do not fit.
    """
    sizes = chosen_sizes(
        base_size=base_size, image_sizes=image_sizes, relative_sizes=relative_sizes, multiple_of=multiple_of
    )
    return MovingShares(sizes, num_epochs, spread, uniform_part)


def _check_epochs(num_epochs: int, least: int) -> None:
    if num_epochs < least:
        raise UserError(f"trainer.max_epochs: expected at least {least} for this size schedule, got {num_epochs}.")
