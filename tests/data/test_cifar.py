import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from sizemix.data import cifar as module
from sizemix.data.cifar import cifar
from sizemix.errors import UserError

_ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg-q75.tar.xz"


@pytest.fixture
def folders(tmp_path):
    """Two classes, twelve training and three test images each, class and number readable from the pixels."""
    for part, count in (("train", 12), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((32, 32, 3), 100 * label + 5 * number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number:04}.png")
    return tmp_path


def test_folders_of_images_become_splits_with_their_class_names(folders):
    dataset = cifar(root=str(folders), val_images=4)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.images.shape == (20, 3, 32, 32)
    assert dataset.test.images.shape == (6, 3, 32, 32)
    for split in (dataset.train, dataset.val, dataset.test):
        assert torch.equal(split.targets, (split.images[:, 0, 0, 0] >= 100).long())


def test_the_validation_part_is_balanced_disjoint_and_always_the_same(folders):
    dataset = cifar(root=str(folders), val_images=4)
    assert dataset.val.targets.bincount().tolist() == [2, 2]
    values = [set(split.images[:, 0, 0, 0].tolist()) for split in (dataset.train, dataset.val)]
    assert not values[0] & values[1]
    assert len(values[0] | values[1]) == 24
    assert cifar(root=str(folders), val_images=4).fingerprint == dataset.fingerprint


def test_fewer_training_images_leave_the_validation_part_alone(folders):
    whole, part = cifar(root=str(folders), val_images=4), cifar(root=str(folders), val_images=4, train_images=6)
    assert part.train.targets.bincount().tolist() == [3, 3]
    assert torch.equal(part.val.images, whole.val.images)


def _break(folders):
    (folders / "train" / "cat" / "0003.png").write_bytes(b"not an image")


def _enlarge(folders):
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folders / "test" / "dog" / "0001.png")


def _add_class(folders):
    (folders / "test" / "fox").mkdir()


def _take_away(folders):
    for part in ("train", "test"):
        (folders / part).rename(folders / f"old-{part}")


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (_break, {}, r"0003.png cannot be read as an image"),
        (_enlarge, {}, r"expected images of 32 x 32 px, got 40 x 20 in .*0001.png"),
        (_add_class, {}, r"same classes in train/ and test/, got fox in one only"),
        (_take_away, {}, r"expected torchvision's CIFAR-10 files, or train/ and test/"),
        (_take_away, {"num_classes": 11}, r"num_classes: expected 10 or 100, got 11"),
        (None, {"val_images": 3}, r"val_images: expected a multiple of 2 .* from 2 to 22, got 3"),
        (None, {"val_images": 24}, r"val_images: expected a multiple of 2"),
        (None, {"train_images": 22}, r"train_images: expected a multiple of 2 .* up to 20, got 22"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(folders, damage, options, message):
    if damage:
        damage(folders)
    with pytest.raises(UserError, match=message) as refused:
        cifar(root=str(folders), **({"val_images": 4} | options))
    assert "\n" not in str(refused.value)


def test_ten_classes_are_not_taken_for_a_hundred(folders):
    for part in ("train", "test"):
        for number in range(8):
            shutil.copytree(folders / part / "cat", folders / part / f"cat{number}")
    with pytest.raises(UserError, match=r"expected the 100 classes of CIFAR-100, got 10; use data=cifar10"):
        cifar(root=str(folders), num_classes=100, val_images=10)


def test_torchvisions_files_are_taken_where_they_are(tmp_path, monkeypatch):
    def cifar100(root, *, train, download):
        data = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1).repeat(32, 1).repeat(32, 2).repeat(3, 3)
        return SimpleNamespace(data=data, targets=[0, 1] * 4, classes=["a", "b"])

    monkeypatch.setattr(module.datasets, "CIFAR100", cifar100)
    dataset = cifar(root=str(tmp_path), num_classes=100, val_images=2)
    assert dataset.name == "CIFAR-100"
    assert dataset.test.images[:, 0, 0, 0].tolist() == list(range(8))
    assert len(dataset.train.targets) == 6


def test_a_download_without_a_network_is_told_in_a_sentence(tmp_path, monkeypatch):
    def offline(root, *, train, download):
        raise URLError("no route to host")

    monkeypatch.setattr(module.datasets, "CIFAR10", offline)
    with pytest.raises(UserError, match=r"could not be downloaded \(no route to host\); put its files into"):
        cifar(root=str(tmp_path), download=True)


@pytest.mark.skipif(not _ARCHIVE.exists(), reason="the CIFAR-10 JPEG archive does not lie beside the project")
def test_the_jpeg_copy_of_cifar10_is_read(tmp_path):
    with tarfile.open(_ARCHIVE) as archive:
        wanted = [member for member in archive if member.isfile() and int(Path(member.name).stem) < 30]
        archive.extractall(tmp_path, wanted, filter="data")
    dataset = cifar(root=str(tmp_path / "cifar10"), val_images=100)
    assert len(dataset.class_names) == 10
    assert dataset.train.targets.bincount().tolist() == [20] * 10
    assert len(dataset.test.targets) == 300
    mean = dataset.train.images.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx(dataset.mean, abs=0.05)
