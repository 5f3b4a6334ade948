import numpy as np
import pytest
import torch

from sizemix.cli.predict import main
from sizemix.errors import UserError
from sizemix.inference.loading import load
from sizemix.inference.predicting import Prediction, Unreadable, predictions


@pytest.mark.parametrize("num_threads", [0, 2])
def test_answers_come_in_order_whatever_the_batches(small_run, num_threads):
    classifier = load(small_run.path)
    pictures = [np.full((28, 28, 1), value, np.uint8) for value in range(0, 200, 20)]

    def found(batch_size):
        return list(
            predictions(
                classifier.net,
                pictures,
                transform=classifier.transform,
                class_names=classifier.class_names,
                batch_size=batch_size,
                num_threads=num_threads,
            )
        )

    one_by_one = found(1)
    assert [one.name for one in one_by_one] == [f"image {number}" for number in range(10)]
    for batch_size in (3, 10, 64):
        for one, other in zip(found(batch_size), one_by_one, strict=True):
            assert (one.name, one.class_number) == (other.name, other.class_number)
            assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(small_run, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    classifier = load(small_run.path)
    good = np.zeros((28, 28, 3), np.uint8)
    found = list(
        predictions(
            classifier.net,
            [good, tmp_path / "broken.jpg", good.astype(float)],
            transform=classifier.transform,
            class_names=classifier.class_names,
            batch_size=2,
        )
    )
    assert [type(one) for one in found] == [Prediction, Unreadable, Unreadable]
    assert found[1].name.endswith("broken.jpg")
    assert "expected a path, a Pillow image, or bytes" in found[2].reason
    with pytest.raises(UserError, match=r"got .*broken.jpg, which cannot be read"):
        classifier.predict([tmp_path / "broken.jpg"])
    assert classifier.predict([]) == []


def test_grey_and_turned_tensors_are_taken(small_run):
    classifier = load(small_run.path)
    grey = torch.randint(0, 255, (1, 28, 28), dtype=torch.uint8)
    assert classifier.transform(grey).shape == (3, classifier.image_size, classifier.image_size)
    assert torch.equal(classifier.transform(grey), classifier.transform(grey.expand(3, -1, -1)))


def test_the_command_names_broken_files_writes_all_and_says_so_by_its_exit_code(photo_run, photos, tmp_path, capsys):
    images = sorted(photos.rglob("*.jpg"))[:3]
    out = tmp_path / "found.csv"
    assert main([str(photo_run.path), *map(str, images), "--out", str(out), "--image-size", "64"]) == 0
    assert len(out.read_text().splitlines()) == 4
    assert images[0].name in capsys.readouterr().out
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(images[0].read_bytes()[:200])
    assert main([str(photo_run.path), str(images[0]), str(broken), "--out", str(out)]) == 1
    shown = capsys.readouterr()
    assert "broken.jpg cannot be read" in shown.err
    assert out.read_text().splitlines()[2].startswith(f"{broken},,,")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jpg"], "does not exist"),
        (["."], "expected image files in ., found none"),
        (["photo.jpg", "--device", "nonsense"], "--device: expected a device of this machine"),
        (["photo.jpg", "--batch-size", "0"], "--batch-size: expected at least 1"),
        (["photo.jpg", "--image-size", "100000"], "a batch of 1 images of 100000 px needs more memory"),
    ],
)
def test_mistakes_are_sentences(small_run, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    if "photo.jpg" in arguments:
        (tmp_path / "photo.jpg").write_bytes(b"")
    assert main([str(small_run.path), *arguments]) == 2
    assert said in capsys.readouterr().err
