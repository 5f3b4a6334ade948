from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sizemix.data.request import Shard, eval_requests, train_requests
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes


def plan_for(world_size, micro_batches, seed=0):
    num_shards = world_size * micro_batches
    shapes = step_shapes((8, 16), budget="D+", base_size=16, base_batch_size=12, num_shards=num_shards)
    schedule = MixedSizes((8, 16), (0.5, 0.5))
    return plan_sizes(schedule, shapes=shapes, num_images=50, num_epochs=2, seed=seed, base_size=16)


worlds = st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]))


@given(worlds, st.integers(0, 1000))
def test_all_ranks_have_one_size_and_together_exactly_the_step(world, seed):
    world_size, micro_batches = world
    plan = plan_for(world_size, micro_batches, seed)
    ranks = [list(train_requests(plan, Shard(rank, world_size, micro_batches), epoch=1)) for rank in range(world_size)]
    for number, spec in enumerate(plan.epoch_specs(1)):
        parts = [rank[item] for rank in ranks for item in range(number * micro_batches, (number + 1) * micro_batches)]
        assert {(part.image_size, part.num_repeats, len(part.indices)) for part in parts} == {
            (spec.image_size, spec.num_repeats, spec.global_batch_size // len(parts))
        }
        served = sorted(
            pair for part in parts for pair in zip(part.passes.tolist(), part.indices.tolist(), strict=True)
        )
        indices, passes = plan.stream.slice(spec.position, spec.position + spec.global_batch_size)
        assert served == sorted(zip(passes.tolist(), indices.tolist(), strict=True))
    assert [request.item for request in ranks[0]] == [request.item for request in ranks[-1]]


@given(worlds, st.integers(0, 8))
def test_starting_later_serves_the_same_items(world, start_item):
    world_size, micro_batches = world
    plan, shard = plan_for(world_size, micro_batches), Shard(world_size - 1, world_size, micro_batches)
    whole = list(train_requests(plan, shard, epoch=1))
    tail = list(train_requests(plan, shard, epoch=1, start_item=start_item))
    assert [request.item for request in tail] == [request.item for request in whole[start_item:]]
    for ours, theirs in zip(tail, islice(whole, start_item, None), strict=True):
        assert (ours.indices == theirs.indices).all()


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 20))
def test_evaluation_shows_every_image_on_exactly_one_rank(num_images, world_size, batch_size):
    requests = [
        request
        for rank in range(world_size)
        for request in eval_requests(num_images, Shard(rank, world_size), image_size=8, batch_size=batch_size)
    ]
    assert sorted(np.concatenate([request.indices for request in requests])) == list(range(num_images))
