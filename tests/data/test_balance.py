import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sizemix.data.balance import Oversampled, balanced_class_weights
from sizemix.data.batches import InMemoryBatches
from sizemix.data.request import TrainRequest


class Asked:
    """A source that remembers what it was asked for."""

    num_images = 0

    def train(self, request):
        self.request = request


def a_pass(oversampled, source, passes=0):
    indices = np.arange(oversampled.num_images)
    oversampled.train(TrainRequest(indices, np.full_like(indices, passes), 8, 1, seed=0, item=0))
    return source.request


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 10))
def test_a_pass_shows_every_class_equally_often_and_every_image(counts, seed):
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    source = Asked()
    oversampled = Oversampled(source, targets, seed=seed)
    asked = a_pass(oversampled, source)
    assert targets[asked.indices].bincount().tolist() == [max(counts)] * len(counts)
    assert set(asked.indices) == set(range(len(targets)))
    times = np.bincount(asked.indices)
    for label in range(len(counts)):
        own = times[targets.numpy() == label]
        assert own.max() - own.min() <= 1


def test_repetitions_are_augmented_anew_in_every_pass():
    source = Asked()
    oversampled = Oversampled(source, torch.tensor([0, 0, 0, 0, 0, 1, 1]), seed=0)
    keys = [
        (index, number)
        for at in range(3)
        for asked in [a_pass(oversampled, source, passes=at)]
        for index, number in zip(asked.indices, asked.passes, strict=True)
    ]
    assert len(set(keys)) == len(keys) == 30


def test_the_images_are_those_of_the_source():
    images = torch.arange(7).view(7, 1, 1, 1).expand(7, 1, 4, 4).to(torch.uint8)
    targets = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    oversampled = Oversampled(InMemoryBatches(images, targets, crop_padding=0, flip=False), targets, seed=0)
    indices = np.arange(10)
    batch = oversampled.train(TrainRequest(indices, np.zeros_like(indices), 4, 1, seed=0, item=0))
    assert torch.equal(batch.targets, targets[batch.images[:, 0, 0, 0].long()])
    assert batch.targets.bincount().tolist() == [5, 5]


def test_class_weights_let_every_class_count_alike():
    targets = torch.tensor([0] * 6 + [1] * 2)
    weights = balanced_class_weights(targets, 2)
    assert torch.allclose(weights, torch.tensor([2 / 3, 2.0]))
    assert weights[targets].mean().item() == 1.0


def test_a_class_without_an_image_weighs_nothing():
    weights = balanced_class_weights(torch.tensor([0] * 6 + [1] * 2), 3)
    assert torch.allclose(weights, torch.tensor([2 / 3, 2.0, 0.0]))
