"""What one optimizer step holds at each image size: how many images, and how many copies of each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from sizemix.errors import UserError

Budget = Literal["constant", "B+", "D+", "B+D+"]
MEMORY = "memory"  # the other budget: fitting_batches
_LEAST_STEPS = 20  # of a pass, however much memory there is


@dataclass(frozen=True)
class StepShape:
    """What a step holds at one size.

    Attributes:
        global_batch_size: source images of the step, over all ranks and micro-batches.
        num_repeats: augmented copies of each source image (batch augmentation; the paper's duplicates).
    """

    global_batch_size: int
    num_repeats: int


def step_shapes(
    image_sizes: Iterable[int],
    *,
    budget: str,
    base_size: int,
    base_batch_size: int,
    num_shards: int = 1,
    fitting: Mapping[int, int] | None = None,
) -> dict[int, StepShape]:
    """The shape of a step at each size (Hoffer et al. 2019, arXiv 1908.08986: the B+ and D+ regimes).

    With S0 the base size, a size S gets (S0/S)^2 times the images (B+), or as many copies of each image (D+), or
    S0/S times both (B+D+), each rounded and at least 1. Where the scaled copies would be under a half, the batch
    shrinks instead, as in the authors' code: a D+ step at S > 1.41 x S0 has fewer images, not half a copy.

    Args:
        image_sizes: sides in pixels.
        budget: constant, B+, D+, B+D+ or memory.
        base_size: S0 in pixels.
        base_batch_size: source images of a step at the base size, over all ranks and micro-batches.
        num_shards: ranks times micro-batches; every shard of a step gets equally many images, so the formula is
            applied to a shard's share, as the authors apply it to each process.
        fitting: with memory, the local batch that fits at each size, as fitting_batches measures it.

    Raises:
        UserError: an unknown budget, a base batch that the shards cannot share evenly, or a batch under 1.
    """
    if budget == MEMORY:
        assert fitting is not None, "the budget memory goes by a table of what fits"
        return {size: StepShape(fitting[size] * num_shards, num_repeats=1) for size in image_sizes}
    if budget not in get_args(Budget):
        raise UserError(f"sizes.budget: expected one of {', '.join((*get_args(Budget), MEMORY))}, got {budget!r}.")
    if base_batch_size < 1:
        raise UserError(f"recipe.base_batch_size: expected at least 1 image, got {base_batch_size}.")
    if base_batch_size % num_shards:
        raise UserError(
            f"recipe.base_batch_size: expected a multiple of {num_shards} (ranks x accumulated micro-batches), "
            f"got {base_batch_size}; use {-(-base_batch_size // num_shards) * num_shards}."
        )
    shard = base_batch_size // num_shards
    return {size: _step_shape(size, budget, base_size, shard, num_shards) for size in image_sizes}


def fitting_batches(
    fits: Callable[[int, int], bool], image_sizes: Iterable[int], *, num_images: int, num_shards: int = 1
) -> dict[int, int]:
    """The largest local batch that fits into memory at each size, the largest size first.

    A batch is a multiple of 8 where it has as many images, and a step never more than a twentieth of the images.

    Args:
        fits: whether a training step of so many images fits: (image_size, local_batch_size) to yes or no. What fits
            at a size is taken to fit at a smaller one.
        image_sizes: sides in pixels.
        num_images: training images.
        num_shards: ranks times micro-batches.

    Raises:
        UserError: not even one image fits, or the images are too few.
    """
    most = num_images // (_LEAST_STEPS * num_shards)
    if most < 1:
        raise UserError(
            f"sizes.budget=memory: expected at least {_LEAST_STEPS * num_shards} training images, got {num_images}; "
            "choose another budget."
        )
    batches: dict[int, int] = {}
    batch = 0
    for size in sorted(image_sizes, reverse=True):
        batch = _largest(partial(fits, size), least=batch, most=most)
        if batch < 1:
            raise UserError(f"sizes: one image of {size} px does not fit into memory; choose smaller sizes.")
        batches[size] = batch
    return {size: batch - batch % 8 if batch > 8 else batch for size, batch in batches.items()}


def _largest(fits: Callable[[int], bool], *, least: int, most: int) -> int:
    """The greatest number from least, which fits, to most that fits, by bisection from below."""
    step = max(1, least)
    while least < most and fits(min(most, least + step)):
        least = min(most, least + step)
        step *= 2
    high = min(most + 1, least + step)  # does not fit, or is beyond
    while high - least > max(1, least // 32):
        middle = (least + high) // 2
        least, high = (middle, high) if fits(middle) else (least, middle)
    return least


def _step_shape(size: int, budget: str, base_size: int, base_shard: int, num_shards: int) -> StepShape:
    ratio = base_size / size
    scale = {"constant": 1.0, "B+D+": ratio}.get(budget, ratio**2)
    scales_copies = "D+" in budget
    scales_batch = budget.startswith("B+") or (scales_copies and scale < 0.5)
    shard_images = round(base_shard * scale) if scales_batch else base_shard
    if shard_images < 1:
        raise UserError(
            f"a step at {size} px would hold under 1 image: {base_shard} at {base_size} px scaled by {scale:.3g} "
            f"({budget}); set recipe.base_batch_size to at least {num_shards * round(0.5 / scale + 1)}."
        )
    repeats = max(1, round(scale)) if scales_copies else 1
    return StepShape(global_batch_size=shard_images * num_shards, num_repeats=repeats)
