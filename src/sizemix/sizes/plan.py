"""The plan of a whole run: for every optimizer step its image size, batch, copies and place in the stream of images.

A plan is a pure function of its inputs. Ranks that never talk compute the same one; it can be printed and costed
before anything trains; its fingerprint goes into every checkpoint.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sizemix.errors import UserError
from sizemix.sizes.budget import StepShape, step_shapes
from sizemix.sizes.schedule import SizeSchedule
from sizemix.sizes.shares import allocate_steps, image_shares
from sizemix.sizes.stream import ImageStream


@dataclass(frozen=True)
class BatchSpec:
    """One optimizer step.

    Attributes:
        step: number of the step in the run, from 0.
        epoch: number of its epoch, from 0.
        image_size: side of the square input in pixels; the same on all ranks and in all micro-batches.
        global_batch_size: source images, over all ranks and micro-batches.
        num_repeats: augmented copies of each.
        position: source images consumed before this step.
    """

    step: int
    epoch: int
    image_size: int
    global_batch_size: int
    num_repeats: int
    position: int


@dataclass(frozen=True)
class PlanInputs:
    """Everything a plan depends on, as plain values.

    Attributes:
        num_images: training images.
        num_epochs: epochs of the run, each of about one pass.
        seed: seed of the run.
        base_size: size that costs are compared with, pixels.
        num_shards: ranks times micro-batches of a step; only recorded, as the shapes already follow from it.
        share_of: what the shares count: images, steps or compute.
        shares: configured share of each size, by epoch.
        shapes: what a step holds at each size.
        cost: training cost of one augmented image at each size and at the base size, in any unit.
        last_epoch: the part of a pass that the last epoch makes.
    """

    num_images: int
    num_epochs: int
    seed: int
    base_size: int
    num_shards: int
    share_of: str
    shares: tuple[Mapping[int, float], ...]
    shapes: Mapping[int, StepShape]
    cost: Mapping[int, float]
    last_epoch: float = 1.0


def plan_run(
    schedule: SizeSchedule,
    *,
    budget: str,
    base_size: int,
    base_batch_size: int,
    num_images: int,
    num_epochs: int,
    seed: int,
    num_shards: int = 1,
    share_of: str = "images",
    cost: Mapping[int, float] | None = None,
    last_epoch: float = 1.0,
    fitting: Mapping[int, int] | None = None,
) -> "SizePlan":
    """Plans a run whose steps follow a budget; arguments as in step_shapes and plan_sizes.

    Raises:
        UserError: what those two refuse.
    """
    shapes = step_shapes(
        schedule.image_sizes,
        budget=budget,
        base_size=base_size,
        base_batch_size=base_batch_size,
        num_shards=num_shards,
        fitting=fitting,
    )
    return plan_sizes(
        schedule,
        shapes=shapes,
        num_images=num_images,
        num_epochs=num_epochs,
        seed=seed,
        base_size=base_size,
        num_shards=num_shards,
        share_of=share_of,
        cost=cost,
        last_epoch=last_epoch,
    )


def plan_sizes(
    schedule: SizeSchedule,
    *,
    shapes: Mapping[int, StepShape],
    num_images: int,
    num_epochs: int,
    seed: int,
    base_size: int,
    num_shards: int = 1,
    share_of: str = "images",
    cost: Mapping[int, float] | None = None,
    last_epoch: float = 1.0,
) -> "SizePlan":
    """Plans a run.

    Args:
        schedule: which sizes with which shares.
        shapes: what a step holds at each size (sizes.budget.step_shapes).
        num_images: training images.
        num_epochs: epochs of the run.
        seed: seed of the run.
        base_size: size that costs are compared with, pixels.
        num_shards: ranks times micro-batches.
        share_of: what the shares count.
        cost: training cost of one augmented image by size; None counts pixels.
        last_epoch: the part of a pass that the last epoch makes, so that a run may have any length.

    Raises:
        UserError: fewer than one epoch, a last one that is no part of one, steps too large for the training data, or a
            schedule whose shares are none.
    """
    if num_epochs < 1:
        raise UserError(f"trainer.max_epochs: expected at least 1, got {num_epochs}.")
    if not 0 < last_epoch <= 1:
        raise UserError(f"training.last_epoch: expected a part of an epoch, above 0 and at most 1, got {last_epoch}.")
    at_size, largest = max(shapes.items(), key=lambda item: item[1].global_batch_size)
    if largest.global_batch_size > num_images:
        grows = min(shape.global_batch_size for shape in shapes.values()) <= num_images
        raise UserError(
            f"a step at {at_size} px would hold {largest.global_batch_size} images, more than the {num_images} "
            "training images; lower recipe.base_batch_size"
            f"{', or choose sizes.budget=D+ or constant' if grows else ''}."
        )
    sizes = {*schedule.image_sizes, base_size}
    return SizePlan(
        PlanInputs(
            num_images=num_images,
            num_epochs=num_epochs,
            seed=seed,
            base_size=base_size,
            num_shards=num_shards,
            share_of=share_of,
            shares=tuple(_checked(schedule.shares(epoch), schedule, epoch) for epoch in range(num_epochs)),
            shapes=shapes,
            cost={size: float(size**2) for size in sizes} if cost is None else {size: cost[size] for size in sizes},
            last_epoch=last_epoch,
        )
    )


class SizePlan:
    """All steps of a run, epoch after epoch.

    Images come from one stream of passes; an epoch is a whole number of steps that makes about one pass, and what it
    leaves over comes first in the next. The last epoch may be a part of one.
    """

    def __init__(self, inputs: PlanInputs) -> None:
        self.inputs = inputs
        self.stream = ImageStream(inputs.num_images, inputs.seed)
        self._sizes_by_epoch = _sizes_by_epoch(inputs)
        if not all(map(len, self._sizes_by_epoch)):
            raise UserError(
                f"{inputs.num_images} training images are too few for steps of up to "
                f"{max(shape.global_batch_size for shape in inputs.shapes.values())} images at {len(inputs.shapes)} "
                "sizes: an epoch would have no step; lower recipe.base_batch_size."
            )
        self._first_steps = np.cumsum([0, *map(len, self._sizes_by_epoch)])
        self._positions = np.concatenate([[0], np.cumsum(self._of_every_step(lambda shape: shape.global_batch_size))])

    @property
    def num_epochs(self) -> int:
        """Epochs of the run."""
        return self.inputs.num_epochs

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return int(self._first_steps[-1])

    @property
    def images_seen(self) -> int:
        """Source images of the run, copies not counted."""
        return int(self._positions[-1])

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Sizes of the schedule, increasing; one with a tiny share may get no step."""
        return tuple(sorted(self.inputs.shapes))

    def epoch_length(self, epoch: int) -> int:
        """Steps of an epoch."""
        return len(self._sizes_by_epoch[epoch])

    def images_before(self, step: int) -> int:
        """Source images consumed before a step; step num_steps gives the whole run."""
        return int(self._positions[step])

    def spec(self, step: int) -> BatchSpec:
        """The step of that number in the run."""
        epoch = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        size = int(self._sizes_by_epoch[epoch][step - self._first_steps[epoch]])
        shape = self.inputs.shapes[size]
        return BatchSpec(step, epoch, size, shape.global_batch_size, shape.num_repeats, self.images_before(step))

    def epoch_specs(self, epoch: int, *, start: int = 0) -> Iterator[BatchSpec]:
        """The steps of an epoch, from its start-th on."""
        first = int(self._first_steps[epoch])
        return (self.spec(step) for step in range(first + start, first + self.epoch_length(epoch)))

    def steps_at(self, image_size: int, *, epoch: int | None = None) -> int:
        """Steps at a size, of the run or of one epoch."""
        epochs = self._sizes_by_epoch if epoch is None else [self._sizes_by_epoch[epoch]]
        return sum(int((sizes == image_size).sum()) for sizes in epochs)

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """All steps at once: the fields of BatchSpec by name, (num_steps,) each."""
        lengths = [len(sizes) for sizes in self._sizes_by_epoch]
        return {
            "step": np.arange(self.num_steps),
            "epoch": np.repeat(np.arange(self.num_epochs), lengths),
            "image_size": np.concatenate(self._sizes_by_epoch),
            "global_batch_size": self._of_every_step(lambda shape: shape.global_batch_size),
            "num_repeats": self._of_every_step(lambda shape: shape.num_repeats),
            "position": self._positions[:-1],
        }

    @cached_property
    def fingerprint(self) -> str:
        """Names the plan: equal exactly where inputs, sizes of all steps and order of the images are equal."""
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        for sizes in self._sizes_by_epoch:
            digest.update(sizes.tobytes())
        first_pass, _ = self.stream.slice(0, self.inputs.num_images)
        digest.update(first_pass.tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, object]:
        """The inputs as JSON-ready values."""
        inputs = asdict(self.inputs)
        inputs["shares"] = [{str(size): share for size, share in shares.items()} for shares in self.inputs.shares]
        inputs["shapes"] = {str(size): asdict(shape) for size, shape in self.inputs.shapes.items()}
        inputs["cost"] = {str(size): cost for size, cost in self.inputs.cost.items()}
        return inputs

    def _of_every_step(self, value: Callable[[StepShape], int]) -> NDArray[np.int64]:
        """(num_steps,) what the shape of each step gives."""
        sizes = np.concatenate(self._sizes_by_epoch)
        values = np.zeros(len(sizes), dtype=np.int64)
        for size, shape in self.inputs.shapes.items():
            values[sizes == size] = value(shape)
        return values


def _checked(shares: Mapping[int, float], schedule: SizeSchedule, epoch: int) -> Mapping[int, float]:
    """Shares without the sizes that have none; the schedule may be a user's own."""
    known = set(shares) <= set(schedule.image_sizes)
    if not known or any(not share >= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-3:
        raise UserError(
            f"{type(schedule).__name__}.shares({epoch}): expected shares of {list(schedule.image_sizes)} that are not "
            f"negative and sum to 1, got {dict(shares)}; mend the schedule."
        )
    return {size: share for size, share in shares.items() if share}


def _sizes_by_epoch(inputs: PlanInputs) -> list[NDArray[np.int64]]:
    """The image size of every step, in order, by epoch.

    Where a size is absent from an epoch, what it is still owed goes to those that are there.
    """
    owed: dict[int, float] = {}
    epochs = []
    for epoch, configured in enumerate(inputs.shares):
        shares = image_shares(configured, share_of=inputs.share_of, shapes=inputs.shapes, cost=inputs.cost)
        left_over = sum(images for size, images in owed.items() if size not in shares)
        images = inputs.num_images * (inputs.last_epoch if epoch == len(inputs.shares) - 1 else 1.0)
        owed = {size: owed.get(size, 0.0) + share * (images + left_over) for size, share in shares.items()}
        steps = allocate_steps(owed, shapes=inputs.shapes)
        for size, number in steps.items():
            owed[size] -= number * inputs.shapes[size].global_batch_size
        sizes = np.repeat(np.array(list(steps), dtype=np.int64), list(steps.values()))
        epochs.append(np.random.default_rng([inputs.seed, 1, epoch]).permutation(sizes))
    return epochs
