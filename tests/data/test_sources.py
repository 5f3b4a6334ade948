import pytest
import torch

from sizemix.data.sources import fashion_mnist
from sizemix.errors import UserError


def test_the_embedded_subset_is_balanced_and_its_splits_are_disjoint():
    dataset = fashion_mnist()
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    for name, num_images in {"train": 9000, "val": 1000, "test": 2000}.items():
        assert splits[name].images.shape == (num_images, 1, 28, 28)
        assert splits[name].targets.bincount().tolist() == [num_images // 10] * 10
    train = {image.numpy().tobytes() for image in dataset.train.images}
    assert not train & {image.numpy().tobytes() for image in dataset.val.images}
    assert len(dataset.class_names) == 10


def test_the_statistics_are_those_of_the_training_images():
    dataset = fashion_mnist()
    pixels = dataset.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(dataset.mean[0], abs=0.002)
    assert pixels.std().item() == pytest.approx(dataset.std[0], abs=0.002)


def test_fewer_training_images_stay_balanced_and_leave_the_other_splits_alone():
    whole, part = fashion_mnist(), fashion_mnist(train_images=50)
    assert part.train.targets.bincount().tolist() == [5] * 10
    assert torch.equal(part.test.images, whole.test.images)
    assert part.fingerprint != whole.fingerprint


@pytest.mark.parametrize("train_images", [0, 15, 9010, -10])
def test_an_impossible_number_of_training_images_is_refused(train_images):
    with pytest.raises(UserError, match="train_images: expected a multiple of 10"):
        fashion_mnist(train_images=train_images)
