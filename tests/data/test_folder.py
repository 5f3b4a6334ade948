import shutil

import pytest
import torch
from PIL import Image

from sizemix.data.folder import BrokenFilesError, folder
from sizemix.data.pack import pack
from sizemix.data.splits import write_split
from sizemix.errors import UserError


def test_a_folder_of_classes_is_split_by_class(photos):
    dataset = folder(root=str(photos))
    assert dataset.class_names == ("dark", "light")
    assert dataset.name == "photos"
    sizes = [split.targets.bincount().tolist() for split in (dataset.train, dataset.val, dataset.test)]
    assert sizes == [[16, 16], [2, 2], [2, 2]]
    paths = [path for split in (dataset.train, dataset.val, dataset.test) for path in split.paths]
    assert len(set(paths)) == 40
    for path, target in zip(dataset.train.paths, dataset.train.targets.tolist(), strict=True):
        assert path.startswith(dataset.class_names[target])


def test_given_parts_are_taken_and_missing_ones_held_out(photos, tmp_path):
    root = tmp_path / "parts"
    shutil.copytree(photos, root / "train")
    for name in ("dark", "light"):
        (root / "test" / name).mkdir(parents=True)
        shutil.move(root / "train" / name / "000.png", root / "test" / name)
    dataset = folder(root=str(root))
    assert sorted(dataset.test.paths) == ["test/dark/000.png", "test/light/000.png"]
    assert dataset.val.targets.bincount().tolist() == [2, 2]
    assert all(path.startswith("train/") for path in dataset.val.paths)
    without = folder(root=str(root), test_dir=None)
    assert all(path.startswith("train/") for path in without.test.paths)


def test_a_written_split_is_taken_as_it_is(photos, tmp_path):
    first = folder(root=str(photos), split_seed=3)
    write_split(first.files, tmp_path / "split.csv")
    (photos / "dark" / "new.png").write_bytes((photos / "dark" / "001.png").read_bytes())
    again = folder(root=str(photos), split_file=str(tmp_path / "split.csv"))
    assert again.fingerprint == first.fingerprint
    assert folder(root=str(photos), split_seed=3).fingerprint != first.fingerprint


def test_broken_files_are_left_out_and_named(photos):
    (photos / "dark" / "empty.jpg").touch()
    (photos / "light" / "text.jpg").write_text("no image")
    (photos / "light" / "notes.txt").write_text("passed over")
    (photos / "light" / ".hidden.jpg").write_text("passed over")
    dataset = folder(root=str(photos))
    assert sorted(dataset.broken) == ["dark/empty.jpg", "light/text.jpg"]
    assert "UnidentifiedImageError" in dataset.broken["light/text.jpg"]
    assert len(dataset.files) == 40


def test_many_broken_files_stop_the_run_unless_allowed(photos):
    for number in range(11):
        (photos / "dark" / f"broken{number}.jpg").write_text("no image")
    with pytest.raises(BrokenFilesError, match=r"11 of 51 files .* data.allow_broken=true") as refused:
        folder(root=str(photos))
    assert len(refused.value.broken) == 11
    assert len(folder(root=str(photos), allow_broken=True).broken) == 11


def test_fewer_training_images_stay_balanced(photos):
    dataset = folder(root=str(photos), train_images=10)
    assert dataset.train.targets.bincount().tolist() == [5, 5]
    assert dataset.val.targets.bincount().tolist() == [2, 2]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a folder with a folder for each class, got .*nowhere"):
        folder(root=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("classes", "found"), [([], "none"), (["dark"], "only those of 'dark'")])
def test_fewer_than_two_classes_are_refused(photos, classes, found):
    for name in {"dark", "light"} - set(classes):
        shutil.rmtree(photos / name)
    with pytest.raises(UserError, match=f"at least two classes.* found {found}"):
        folder(root=str(photos))


def test_a_pack_is_not_taken_for_photos_nor_photos_for_a_pack(tmp_path, photos):
    with pytest.raises(UserError, match=r"expected a pack, .*; photos are data=folder, or packed by sizemix pack .*"):
        pack(root=str(photos))
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "index.bin").touch()
    with pytest.raises(UserError, match=r"expected a folder of photos, got the pack .*; a pack is data=pack"):
        folder(root=str(tmp_path / "packed"))


def test_classes_that_differ_between_parts_are_named(photos, tmp_path):
    root = tmp_path / "parts"
    for part in ("train", "val"):
        shutil.copytree(photos, root / part)
    (root / "val" / "light").rename(root / "val" / "bright")
    with pytest.raises(UserError, match="same classes in train/ and val/, got images of light in train/ only"):
        folder(root=str(root))


def test_targets_are_class_numbers(photos):
    assert folder(root=str(photos)).train.targets.dtype is torch.int64


@pytest.mark.parametrize("beside", ["valid", "testing"])
def test_a_folder_of_the_same_classes_that_is_no_split_is_refused(tmp_path, beside):
    for part in ("train", beside):
        for name in ("dark", "bright"):
            for number in range(4):
                place = tmp_path / part / name
                place.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), number).save(place / f"{number}.png")
    with pytest.raises(UserError, match=f"expected images in train alone, got classes of them in {beside}"):
        folder(root=str(tmp_path), val_fraction=0.25, test_fraction=0.25)
    named = folder(root=str(tmp_path), test_dir=beside, val_fraction=0.25)
    assert len(named.test.targets) == 8


def test_a_split_that_the_user_passes_over_is_held_out(tmp_path):
    for part in ("train", "val"):
        for name in ("dark", "bright"):
            for number in range(8):
                place = tmp_path / part / name
                place.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), number).save(place / f"{number}.png")
    found = folder(root=str(tmp_path), val_dir=None, val_fraction=0.25, test_fraction=0.25)
    assert {path.split("/")[0] for path in found.val.paths} == {"train"}
