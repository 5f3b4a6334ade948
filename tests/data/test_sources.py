import pytest
import torch

from sizemix.data.sources import Split, fashion_mnist
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


def test_padding_is_no_part_of_the_images_but_of_training():
    padded, plain = fashion_mnist(crop_padding=2), fashion_mnist(crop_padding=0)
    assert padded.test.fingerprint == plain.test.fingerprint
    assert padded.fingerprint != plain.fingerprint


_BYTES, _CLASSES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (_BYTES / 255, _CLASSES, r"expected images .* of bytes, torch.uint8, got \(2, 3, 8, 8\) of torch.float32"),
        (_BYTES[:, :2], _CLASSES, r"1 or 3, height, width\) .* got \(2, 2, 8, 8\)"),
        (_BYTES[0], _CLASSES, r"got \(3, 8, 8\)"),
        (_BYTES, _CLASSES[:1], r"a class number for each of 2 images, torch.int64, got \(1,\) of torch.int64"),
        (_BYTES, _CLASSES.int(), r"got \(2,\) of torch.int32"),
    ],
)
def test_images_and_targets_of_another_kind_are_refused(images, targets, message):
    with pytest.raises(UserError, match=message):
        Split(images, targets)
