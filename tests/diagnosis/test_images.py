import threading
import time

import pytest
import pytorch_lightning as pl

from sizemix.data.batches import InMemoryBatches
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.splits import SplitFile, write_split
from sizemix.diagnosis import images
from sizemix.diagnosis.finding import carried_out
from sizemix.diagnosis.images import check_images, check_loader, check_sides, loading_speed
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.sizes.budget import StepShape


def looked_at(check):
    """What a check finds, by subject, and what it returns."""
    found = []
    result = carried_out(check, found, subject="it")
    return {finding.subject: finding for finding in found}, result


def test_a_folder_of_photos_is_counted_and_its_broken_file_named(compose, photos):
    found, dataset = looked_at(check_images(compose("data=folder", f"data.root={photos}")))
    assert found["images"].text == "photos: 20 for training, 2 for validation, 2 for the test"
    assert found["classes"].text == "2, of 10 training images each"
    assert found["files"].verdict == "warning"
    assert "dog/broken.jpg (UnidentifiedImageError" in found["files"].remedy
    assert len(dataset.train.paths) == 20


def test_a_rare_class_is_a_warning_unless_the_run_takes_care_of_it(compose, photos, tmp_path):
    """Of a split that has 10 cats and one dog for training, and no dog for the test."""
    parts = {"cat": ["train"] * 10 + ["val", "test"], "dog": ["train", "val"]}
    files = [SplitFile(f"{name}/{at:02}.jpg", name, part) for name in parts for at, part in enumerate(parts[name])]
    write_split(files, tmp_path / "split.csv")
    data = ("data=folder", f"data.root={photos}", f"data.split_file={tmp_path / 'split.csv'}")
    rare, untested = (finding for finding in check_images(compose(*data)) if finding.subject == "classes")
    assert rare.text == "2, of 1 (dog) to 10 (cat) training images each"
    assert "training.imbalance=class_weights, or oversample" in rare.remedy
    assert untested.text == "1 without an image for the test"
    assert "got none of dog; add some" in untested.remedy
    assert {rare.verdict, untested.verdict} == {"warning"}
    balanced = list(check_images(compose(*data, "training.imbalance=oversample")))
    assert next(finding.verdict for finding in balanced if finding.subject == "classes") == "ok"


def test_a_missing_folder_is_the_sources_own_mistake(compose, tmp_path):
    with pytest.raises(UserError, match=r"data\.root: expected a folder"):
        list(check_images(compose("data=folder", f"data.root={tmp_path / 'nowhere'}")))


@pytest.mark.parametrize(("largest_size", "verdict"), [(30, "ok"), (32, "warning")])
def test_photos_that_would_be_enlarged_are_a_warning(compose, photos, largest_size, verdict):
    _, dataset = looked_at(check_images(compose("data=folder", f"data.root={photos}")))
    (finding,) = check_sides(dataset, largest_size=largest_size)
    assert finding.verdict == verdict
    assert finding.text == "short side 30 to 30 px, median 30 px, of 20 photos"


def test_the_sides_of_images_in_memory_are_no_matter(tiny_dataset):
    assert list(check_sides(tiny_dataset, largest_size=100)) == []


def test_the_measured_speed_is_that_of_the_batches(tiny_dataset, monkeypatch):
    train = InMemoryBatches.train

    def slow(self, request):
        time.sleep(0.05)
        return train(self, request)

    monkeypatch.setattr(InMemoryBatches, "train", slow)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    datamodule = SizedDataModule(tiny_dataset, val_size=8)
    speed = loading_speed(datamodule, 8, StepShape(32, 2), trainer=trainer, seconds=0.3)
    assert 16 / 0.05 < speed <= 2 * 16 / 0.05, "16 source images a batch, two copies of each"


def test_photos_are_loaded_by_the_runs_threads(setting, photos, monkeypatch):
    monkeypatch.setattr(images, "_SECONDS_A_SIZE", 0.05)
    monkeypatch.setattr(images, "available_cores", lambda: 1)
    looked = setting("data=folder", f"data.root={photos}", "data.num_workers=2", "data.size_multiple=4")
    _, dataset = looked_at(check_images(looked.config))
    for net in (build_backbone("resnet20_cifar", num_classes=2), None):
        found, loader = looked_at(check_loader(looked, dataset, net))
        assert not [one for one in threading.enumerate() if one.name.startswith("sizemix-data")], "they end with it"
        assert loader.num_images == 20
        assert set(loader.images_per_second) == {8, 12}
        assert all(speed > 0 for speed in loader.images_per_second.values())
        assert found["workers"].verdict == "warning"
        assert found["workers"].remedy.endswith("set data.num_workers=1.")
