import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from sizemix.errors import UserError
from sizemix.evaluation.predictions import Answers, Predictions
from sizemix.evaluation.scores import curve_points, top1_interval


def answers_of(logits, targets):
    """Of logits (images, classes)."""
    confidence, predicted = logits.softmax(1).max(1)
    in_top5 = (logits.topk(5, dim=1).indices == targets[:, None]).any(1)
    loss = F.cross_entropy(logits, targets, reduction="none")
    return Answers(*(one.numpy()[None] for one in (predicted.int(), confidence, loss, in_top5)))


@pytest.fixture
def logits():
    return torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture
def targets(logits):
    noise = torch.randn(500, 8, generator=torch.Generator().manual_seed(1))
    return (logits + 2 * noise).argmax(1)


def test_figures_are_those_of_torchmetrics_from_logits(logits, targets):
    found = Predictions((32,), targets.int().numpy(), "digest", answers_of(logits, targets), None)
    (point,) = curve_points(found)
    macro = multiclass_accuracy(logits, targets, num_classes=8, average="macro")
    assert point.plain.top1 == pytest.approx((logits.argmax(1) == targets).double().mean().item())
    assert point.plain.top5 == pytest.approx(
        multiclass_accuracy(logits, targets, num_classes=8, average="micro", top_k=5).item()
    )
    assert point.plain.balanced == pytest.approx(macro.item())
    assert point.plain.loss == pytest.approx(F.cross_entropy(logits, targets).item())
    expected = multiclass_calibration_error(logits.softmax(1), targets, num_classes=8, n_bins=15)
    assert point.plain.calibration_error == pytest.approx(expected.item(), abs=1e-6)
    assert point.plain.calibration_error > 0.01
    assert point.best is point.plain


def test_the_interval_is_wilsons():
    z, correct, num_images = norm.ppf(0.975), 45, 60
    centre = (correct + z**2 / 2) / (num_images + z**2)
    half = z / (num_images + z**2) * np.sqrt(correct * (num_images - correct) / num_images + z**2 / 4)
    assert top1_interval(correct, num_images) == pytest.approx((centre - half, centre + half))
    assert top1_interval(60, 60)[1] == 1.0
    assert 0.9 < top1_interval(60, 60)[0] < 0.95


@pytest.mark.parametrize("recalibrates", [True, False])
def test_predictions_come_back_from_their_file(tmp_path, logits, targets, recalibrates):
    plain, tuned = answers_of(logits, targets), answers_of(logits.flip(1), targets)
    saved = Predictions((32,), targets.int().numpy(), "digest", plain, tuned if recalibrates else None)
    saved.save(tmp_path / "predictions.npz")
    found = Predictions.load(tmp_path / "predictions.npz")
    assert curve_points(found) == curve_points(saved)
    assert (found.image_digest, found.image_sizes) == ("digest", (32,))
    assert (found.recalibrated is None) is not recalibrates


@pytest.mark.parametrize("damage", ["missing", "cut", "another", "shapes", "bits"])
def test_another_file_is_refused_in_a_sentence(tmp_path, logits, targets, damage):
    path = tmp_path / "predictions.npz"
    saved = Predictions((32,), targets.int().numpy(), "digest", answers_of(logits, targets), None)
    if damage == "shapes":
        saved = Predictions((32, 48), targets.int().numpy(), "digest", answers_of(logits, targets), None)
    if damage != "missing":
        saved.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    if damage == "bits":  # in the middle of the compressed data
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(8)
        path.write_bytes(content)
    if damage == "another":
        np.savez(path, images=np.zeros(3))
    with pytest.raises(UserError, match=r"predictions.npz.*run `sizemix evaluate` again"):
        Predictions.load(path)
