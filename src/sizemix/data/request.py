"""What a loader item asks for: pure values, so that any worker on any rank makes the same batch from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sizemix.sizes.plan import SizePlan


@dataclass(frozen=True)
class TrainRequest:
    """One rank's micro-batch of one optimizer step.

    Attributes:
        indices: (local_batch_size,) source images.
        passes: (local_batch_size,) the pass that shows each.
        image_size: side in pixels.
        num_repeats: augmented copies of each image.
        seed: seed of the run.
        item: number of the micro-batch in the run, the same on every rank.
    """

    indices: NDArray[np.int64]
    passes: NDArray[np.int64]
    image_size: int
    num_repeats: int
    seed: int
    item: int


@dataclass(frozen=True)
class EvalRequest:
    """Images to show as they are.

    Attributes:
        indices: (local_batch_size,) images.
        image_size: side in pixels.
    """

    indices: NDArray[np.int64]
    image_size: int


@dataclass(frozen=True)
class Shard:
    """This process's part of every step.

    Attributes:
        rank: number of the process.
        world_size: processes.
        micro_batches: loader items that make up a step (gradient accumulation).
    """

    rank: int = 0
    world_size: int = 1
    micro_batches: int = 1


def train_requests(plan: SizePlan, shard: Shard, *, epoch: int, start_item: int = 0) -> Iterator[TrainRequest]:
    """A rank's items of an epoch, from its start_item-th on.

    The images of a step are cut into equal blocks, micro-batch by micro-batch and rank by rank: disjoint, of one
    size, and together exactly the step.
    """
    start_step, start_micro = divmod(start_item, shard.micro_batches)
    for spec in plan.epoch_specs(epoch, start=start_step):
        block = spec.global_batch_size // (shard.world_size * shard.micro_batches)
        for micro in range(start_micro, shard.micro_batches):
            first = spec.position + (micro * shard.world_size + shard.rank) * block
            indices, passes = plan.stream.slice(first, first + block)
            yield TrainRequest(
                indices=indices,
                passes=passes,
                image_size=spec.image_size,
                num_repeats=spec.num_repeats,
                seed=plan.inputs.seed,
                item=spec.step * shard.micro_batches + micro,
            )
        start_micro = 0


def eval_requests(num_images: int, shard: Shard, *, image_size: int, batch_size: int) -> list[EvalRequest]:
    """A rank's part of a whole split, every image on exactly one rank, none repeated."""
    mine = np.arange(shard.rank, num_images, shard.world_size)
    return [EvalRequest(mine[at : at + batch_size], image_size) for at in range(0, len(mine), batch_size)]
