import pytest

from sizemix.data.crops import RandomResizedCrop
from sizemix.runs.folder import RunFolder
from sizemix.training import images
from sizemix.training.images import open_dataset, serve


def test_imagenets_published_validation_images_are_the_test_and_1_percent_of_train_is_held_out(
    compose, photos, tmp_path
):
    root = photos({"train/n01": 15, "train/n02": 15, "val/n01": 3, "val/n02": 2})
    folder = RunFolder.create(tmp_path / "run", compose("data=imagenet", f"data.root={root}"))
    dataset = open_dataset(folder.config(), folder)
    assert (dataset.name, dataset.class_names) == ("ImageNet", ("n01", "n02"))
    published = {path.relative_to(root).as_posix() for path in root.glob("val/*/*")}
    assert set(dataset.test.paths) == published
    assert dataset.val.targets.bincount().tolist() == [1, 1], "1 %, and at least one image of a class"
    assert dataset.train.targets.bincount().tolist() == [14, 14]
    extracted = {path.relative_to(root).as_posix() for path in root.glob("train/*/*")}
    assert {*dataset.train.paths, *dataset.val.paths} == extracted


def test_crops_are_as_the_data_group_says(compose, photos, tmp_path):
    root = photos({"cat": 4, "dog": 4})
    options = ("data.crop_scale=[0.3,0.9]", "data.crop_aspect=[0.8,1.2]", "data.crop_reference_size=48")
    folder = RunFolder.create(tmp_path / "run", compose("data=folder", f"data.root={root}", *options))
    crop = open_dataset(folder.config(), folder).train.crop
    assert crop == RandomResizedCrop((0.3, 0.9), (0.8, 1.2), 48)


@pytest.mark.parametrize(
    ("num_workers", "devices", "each"),
    [("auto", 1, 8), ("auto", 3, 2), ("auto", 16, 1), ("auto", "[0,1]", 4), ("auto", "'0,1'", 4), (5, 2, 5)],
)
def test_devices_share_the_cores_for_loader_processes_unless_told_otherwise(
    compose, tiny_dataset, monkeypatch, num_workers, devices, each
):
    monkeypatch.setattr(images, "available_cores", lambda: 8.5)
    config = compose(f"data.num_workers={num_workers}", f"trainer.devices={devices}")
    assert serve(config, tiny_dataset, tiny_dataset.preprocessing).num_workers == each
