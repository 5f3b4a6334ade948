import numpy as np
import pytest

from sizemix.data.loader import RequestLoader, StepLoader
from sizemix.data.request import EvalRequest, Shard
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes


class Trainer:
    """Where a trainer stands."""

    def __init__(self):
        self.place = (0, 0)


def plan():
    shapes = step_shapes((8, 16), budget="B+", base_size=16, base_batch_size=4)
    schedule = MixedSizes((8, 16), (0.5, 0.5))
    return plan_sizes(schedule, shapes=shapes, num_images=42, num_epochs=3, seed=0, base_size=16)


def item_of(request):
    return request.item


@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_serves_the_trainers_epoch_from_the_trainers_item_on(num_workers):
    trainer, planned = Trainer(), plan()
    loader = StepLoader(planned, Shard(), fetch=item_of, place=lambda: trainer.place, num_workers=num_workers)
    served = []
    for epoch, start in [(0, 0), (1, 2), (2, 0)]:
        trainer.place = (epoch, start)
        served.append(list(loader))
    first = [planned.epoch_length(0), planned.epoch_length(0) + planned.epoch_length(1)]
    assert served == [
        list(range(first[0])),
        list(range(first[0] + 2, first[1])),
        list(range(first[1], planned.num_steps)),
    ]


def test_an_iterator_asks_for_the_place_only_with_its_first_item():
    trainer, planned = Trainer(), plan()
    iterator = iter(StepLoader(planned, Shard(), fetch=item_of, place=lambda: trainer.place, num_workers=0))
    trainer.place = (1, 3)
    assert next(iterator) == planned.epoch_length(0) + 3


def test_its_length_is_that_of_the_whole_epoch_even_in_the_middle_of_it():
    trainer, planned = Trainer(), plan()
    loader = StepLoader(planned, Shard(micro_batches=2), fetch=item_of, place=lambda: trainer.place, num_workers=0)
    lengths = []
    for place in [(0, 0), (1, 3), (2, 1), (3, 0)]:
        trainer.place = place
        lengths.append(len(loader))
    epochs = [planned.epoch_length(epoch) for epoch in range(3)]
    assert lengths == [2 * number for number in (*epochs, epochs[-1])]
    assert len(set(epochs)) > 1, "the example needs epochs of different length"


@pytest.mark.parametrize("num_workers", [0, 2, 5])
def test_an_eval_loader_serves_all_requests_every_time(num_workers):
    requests = [EvalRequest(np.array([number]), 8) for number in range(3)]
    loader = RequestLoader(requests, fetch=lambda request: int(request.indices[0]), num_workers=num_workers)
    assert [list(loader), list(loader), len(loader)] == [[0, 1, 2], [0, 1, 2], 3]
