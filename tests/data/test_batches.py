import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as transforms

from sizemix.data.batches import InMemoryBatches
from sizemix.data.request import EvalRequest, TrainRequest


def split(channels=1, size=8, num_images=6):
    images = torch.randint(0, 256, (num_images, channels, size, size), dtype=torch.uint8)
    return images, torch.arange(num_images)


def request(indices, image_size=8, num_repeats=1, seed=0, passes=None):
    indices = np.array(indices)
    passes = np.zeros_like(indices) if passes is None else np.array(passes)
    return TrainRequest(indices, passes, image_size, num_repeats, seed, item=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_shows_the_whole_image_resized(channels):
    images, targets = split(channels)
    batches = InMemoryBatches(images, targets, crop_padding=2, flip=True)
    native = batches.eval(EvalRequest(np.array([4, 1]), 8))
    assert (native.images == images[[4, 1]]).all()
    assert native.targets.tolist() == [4, 1]
    larger = batches.eval(EvalRequest(np.array([4, 1]), 12))
    assert (larger.images == transforms.resize(images[[4, 1]], [12, 12], antialias=True)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_training_image_is_a_crop_of_the_padded_image_or_its_mirror(channels):
    images, targets = split(channels)
    batch = InMemoryBatches(images, targets, crop_padding=2, flip=True).train(request([0, 1, 2, 3, 4, 5], seed=3))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen_mirrored = 0
    for shown, target in zip(batch.images, batch.targets, strict=True):
        crops = [padded[target, :, top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
        straight = any(torch.equal(shown, crop) for crop in crops)
        mirrored = any(torch.equal(shown, crop.flip(-1)) for crop in crops)
        assert straight or mirrored
        seen_mirrored += mirrored
    assert 0 < seen_mirrored < 6


def test_without_padding_and_flip_only_the_size_changes():
    images, targets = split()
    batch = InMemoryBatches(images, targets, crop_padding=0, flip=False).train(request([5, 0], image_size=4))
    assert (batch.images == transforms.resize(images[[5, 0]], [4, 4], antialias=True)).all()
    assert batch.image_size == 4


def test_copies_differ_but_show_the_same_images():
    images, targets = split(num_images=20)
    batch = InMemoryBatches(images, targets, crop_padding=2, flip=True).train(request(range(20), num_repeats=3))
    assert batch.targets.tolist() == list(range(20)) * 3
    first, second, third = batch.images.chunk(3)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_a_sample_looks_the_same_in_any_batch_and_different_in_another_pass():
    images, targets = split(size=16)
    batches = InMemoryBatches(images, targets, crop_padding=4, flip=True)
    together = batches.train(request([0, 1, 2, 3], passes=[2, 2, 2, 2]))
    alone = batches.train(request([2], passes=[2]))
    assert torch.equal(together.images[2], alone.images[0])
    assert not torch.equal(alone.images, batches.train(request([2], passes=[3])).images)


def test_all_crop_positions_occur_equally_often():
    images = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    images[0, 0, 1, 1] = 255
    batches = InMemoryBatches(images, torch.zeros(1, dtype=torch.int64), crop_padding=1, flip=False)
    shown = batches.train(request([0] * 9000, image_size=3, passes=range(9000))).images
    frequencies = (shown == 255).float().mean(0).flatten()
    assert (frequencies - 1 / 9).abs().max() < 0.015
