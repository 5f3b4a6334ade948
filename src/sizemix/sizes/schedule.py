"""Which image sizes a run trains at, and which share of it each size gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from sizemix.errors import UserError


class SizeSchedule(Protocol):
    """Says which sizes occur and how the run is shared among them; any object with these two members serves."""

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Every image_size that can occur, in pixels, increasing."""

    def shares(self, epoch: int) -> Mapping[int, float]:
        """Share of each image_size that an epoch has; they sum to 1, and what is absent has none."""


@dataclass(frozen=True)
class MixedSizes:
    """The same sizes with the same shares in every epoch; one size is training at a fixed size.

    Args:
        image_sizes: sides of the square inputs in pixels, strictly increasing.
        size_shares: one positive share for each size; they sum to 1.

    Raises:
        UserError: sizes that are not positive or not increasing, or shares that do not fit them.
    """

    image_sizes: tuple[int, ...]
    size_shares: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_sizes(self.image_sizes)
        _check_shares(self.image_sizes, self.size_shares)

    def shares(self, epoch: int) -> Mapping[int, float]:
        """Share of each image_size, the same in every epoch."""
        return dict(zip(self.image_sizes, self.size_shares, strict=True))


def mixed(
    *,
    base_size: int,
    shares: Sequence[float] | None = None,
    image_sizes: Sequence[int] | None = None,
    relative_sizes: Sequence[float] | None = None,
    multiple_of: int = 1,
) -> MixedSizes:
    """One or several sizes with fixed shares: the user's own list, or sizes generated around the base size.

    Args:
        base_size: side in pixels that relative_sizes refer to.
        shares: one share for each size; None shares the run equally.
        image_sizes: the user's own sizes in pixels; taken as they are or refused, never rounded.
        relative_sizes: sizes as multiples of base_size, rounded to multiple_of; used where image_sizes is None.
        multiple_of: what every size must be a multiple of.

    Raises:
        UserError: sizes or shares that do not fit.
    """
    sizes = chosen_sizes(
        base_size=base_size, image_sizes=image_sizes, relative_sizes=relative_sizes, multiple_of=multiple_of
    )
    return MixedSizes(sizes, tuple(shares) if shares is not None else (1 / len(sizes),) * len(sizes))


def fixed(*, base_size: int, relative_size: float = 1.0, multiple_of: int = 1) -> MixedSizes:
    """One size for the whole run.

    Args:
        base_size: side in pixels that costs are compared with.
        relative_size: the size trained at, as a multiple of base_size, rounded to multiple_of; 1 takes base_size as
            it is.
        multiple_of: what the size must be a multiple of.

    Raises:
        UserError: it is none.
    """
    size = base_size if relative_size == 1 else another_size(relative_size, base_size, multiple_of)
    return mixed(base_size=base_size, image_sizes=[size], multiple_of=multiple_of)


def another_size(relative_size: float, base_size: int, multiple_of: int) -> int:
    """A multiple of the base size, rounded.

    Raises:
        UserError: rounding makes it the base size itself.
    """
    size = rounded(relative_size * base_size, multiple_of)
    if size == base_size:
        raise UserError(
            f"sizes.relative_size: expected another size than the base size, got {relative_size:.3g} x {base_size} px, "
            f"which is {size} px as a multiple of {multiple_of}; take another factor, a larger base size or a smaller "
            "sizes.multiple_of."
        )
    return size


def size_range(
    *,
    base_size: int,
    smallest: int | None = None,
    largest: int | None = None,
    relative_smallest: float = 4 / 7,
    relative_largest: float = 10 / 7,
    multiple_of: int = 1,
    power: float = 0.0,
) -> MixedSizes:
    """Every multiple of a number between two sizes.

    Args:
        base_size: side in pixels that relative bounds refer to.
        smallest: side in pixels; None: relative_smallest of the base size, rounded.
        largest: side in pixels; None: relative_largest of the base size, rounded.
        relative_smallest: used where smallest is None.
        relative_largest: used where largest is None.
        multiple_of: the step from one size to the next; both bounds are multiples of it.
        power: a size's share is in proportion to size ** power: 0 is uniform, -2 gives every size the same pixels.

    Raises:
        UserError: bounds in the wrong order, or no multiples.
    """
    low = rounded(relative_smallest * base_size, multiple_of) if smallest is None else smallest
    high = rounded(relative_largest * base_size, multiple_of) if largest is None else largest
    _check_sizes([low, high])
    _check_multiples([low, high], multiple_of)
    sizes = tuple(range(low, high + 1, multiple_of))
    weights = [(size / high) ** power for size in sizes]
    return MixedSizes(sizes, tuple(weight / sum(weights) for weight in weights))


def chosen_sizes(
    *,
    base_size: int,
    image_sizes: Sequence[int] | None,
    relative_sizes: Sequence[float] | None,
    multiple_of: int,
) -> tuple[int, ...]:
    """The user's own sizes, or else sizes generated around the base size; arguments as in mixed.

    Raises:
        UserError: neither given, or sizes that are not increasing or not such multiples.
    """
    if image_sizes is None:
        if not relative_sizes:
            raise UserError(
                "expected sizes.image_sizes or sizes.relative_sizes, got neither; list the sizes to train at."
            )
        _check_multiples([base_size], multiple_of)
        image_sizes = [rounded(relative * base_size, multiple_of) for relative in relative_sizes]
        if len(set(image_sizes)) < len(image_sizes):
            raise UserError(
                f"sizes around {base_size} px coincide when rounded to multiples of {multiple_of} (got {image_sizes}); "
                "set a smaller sizes.multiple_of, or sizes.image_sizes=[...]."
            )
    _check_sizes(image_sizes)
    _check_multiples(image_sizes, multiple_of)
    return tuple(image_sizes)


def rounded(size: float, multiple_of: int) -> int:
    """The nearest positive multiple, in pixels."""
    return max(1, round(size / multiple_of)) * multiple_of


def _check_sizes(sizes: Sequence[int]) -> None:
    if not sizes:
        raise UserError("expected at least one image size, got an empty list; set sizes.image_sizes=[...].")
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    if not whole:
        raise UserError(f"image sizes must be positive whole pixels, got {list(sizes)}.")
    if any(low >= high for low, high in pairwise(sizes)):
        raise UserError(f"image sizes must be increasing, got {list(sizes)}; use {sorted(set(sizes))}.")


def _check_multiples(sizes: Sequence[int], multiple_of: int) -> None:
    for size in sizes:
        if size % multiple_of:
            below = size // multiple_of * multiple_of
            nearest = f"{below} or {below + multiple_of}" if below else f"{multiple_of}"
            raise UserError(
                f"image sizes must be multiples of {multiple_of} (sizes.multiple_of), got {size}; use {nearest}."
            )


def _check_shares(sizes: Sequence[int], shares: Sequence[float]) -> None:
    if len(shares) != len(sizes):
        raise UserError(
            f"expected one share for each of the {len(sizes)} image sizes {list(sizes)}, got {len(shares)} shares "
            f"{list(shares)}; set sizes.shares=[...]."
        )
    if any(not share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        raise UserError(
            f"shares must be positive and sum to 1, got {list(shares)} with sum {sum(shares):.4g}; "
            "leave out sizes that get none."
        )
