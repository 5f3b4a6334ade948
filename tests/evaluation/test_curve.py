import sys

import numpy as np
import pytest
import torch
from torch import nn

from sizemix.data.batches import NOT_SHOWN, Batch
from sizemix.errors import UserError
from sizemix.evaluation.curve import predictions, size_statistics
from sizemix.evaluation.scores import class_accuracies, curve_points
from sizemix.models.batchnorm import recalibrated


class Listed(list):
    """Batches with the numbers of their images."""

    @property
    def rows(self):
        return np.arange(sum(len(batch.targets) for batch in self if batch.image_size == self[0].image_size))


def evaluated(net, sizes, *, test, calibration, show_progress=False):
    statistics = size_statistics(net, Listed(calibration), show_progress=show_progress)
    return predictions(
        net,
        Listed(test),
        image_sizes=sizes,
        statistics=statistics,
        image_digest="digest",
        show_progress=show_progress,
    )


class BrightnessClassifier(nn.Module):
    """Says 1 where an image is brighter than the batch norm's mean."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)

    def forward(self, images):
        brightness = self.norm(images).mean((1, 2, 3))
        return torch.stack([-brightness, brightness], dim=1)


def batches(image_size):
    """At larger sizes everything is brighter, so that statistics of another size mislead."""
    targets = torch.arange(8) % 2
    for at in (0, 4):
        part = targets[at : at + 4]
        images = (part.view(-1, 1, 1, 1) + 0.1 * image_size).expand(-1, 3, image_size, image_size)
        yield Batch(images.contiguous(), part, image_size)


def side_by_side(sizes):
    """As they come: all sizes of the first images, then of the next."""
    return [batch for at_sizes in zip(*(batches(size) for size in sizes), strict=True) for batch in at_sizes]


def curve(net, sizes=(4, 16)):
    return evaluated(net, sizes, test=side_by_side(sizes), calibration=side_by_side(sizes))


def test_top1_at_every_size_with_both_statistics():
    net = BrightnessClassifier()
    net.norm.running_mean.fill_(0.5 + 0.4)
    points = curve_points(curve(net))
    assert [(point.image_size, point.num_images) for point in points] == [(4, 8), (16, 8)]
    assert [point.plain.top1 for point in points] == [1.0, 0.5]
    assert [point.recalibrated.top1 for point in points] == [1.0, 1.0]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training):
    net = BrightnessClassifier().train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    curve(net)
    assert net.training is training
    assert net.norm.training is training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_sizes_side_by_side_give_exactly_what_each_gives_alone():
    """Statistics and figures of one size are not touched by those of another, whatever the order."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)])
    sizes = (8, 12, 16)

    def random_batches(size, seed):
        generator, labels = torch.Generator().manual_seed(size + seed), torch.Generator().manual_seed(seed)
        for _ in range(5):
            images = torch.randn(16, 3, size, size, generator=generator)
            yield Batch(images, torch.randint(0, 5, (16,), generator=labels), size)

    def measured(*sizes):
        test, calibration = (
            [one for at_sizes in zip(*(random_batches(size, seed) for size in sizes), strict=True) for one in at_sizes]
            for seed in (0, 100)
        )
        return evaluated(net, sizes, test=test, calibration=calibration)

    together, alone = measured(*sizes), [measured(size) for size in sizes]
    assert curve_points(together) == [curve_points(one)[0] for one in alone]
    assert class_accuracies(together) == [row for one in alone for row in class_accuracies(one)]
    for point in curve_points(together):  # as before sizes were measured side by side
        with recalibrated(net, (batch.images for batch in random_batches(point.image_size, 100))), torch.no_grad():
            right = [(net(one.images).argmax(1) == one.targets) for one in random_batches(point.image_size, 0)]
        assert torch.cat(right).float().mean().item() == pytest.approx(point.recalibrated.top1)


def test_calibration_images_are_not_read_for_a_network_without_batch_norm():
    class Unread(list):
        def __iter__(self):
            raise AssertionError("read")

    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert size_statistics(net, Unread(), show_progress=False) == {}


def test_a_split_of_which_nothing_can_be_read_is_refused():
    batches = [Batch(batch.images, torch.full_like(batch.targets, NOT_SHOWN), 4) for batch in side_by_side([4])]
    with pytest.raises(UserError, match="expected images to evaluate on, got none"):
        evaluated(BrightnessClassifier(), (4,), test=batches, calibration=side_by_side([4]))


def test_images_that_could_not_be_read_are_not_counted():
    batches = side_by_side([4, 16])
    for batch in batches[:2]:  # the first images, at both sizes
        batch.targets = torch.where(torch.arange(4) == 2, NOT_SHOWN, batch.targets)
    found = evaluated(BrightnessClassifier(), (4, 16), test=batches, calibration=side_by_side([4, 16]))
    assert found.targets.tolist() == [0, 1, 1, 0, 1, 0, 1]
    assert [point.num_images for point in curve_points(found)] == [7, 7]


def test_the_progress_bar_shows_the_size_at_a_terminal_alone(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    batches = side_by_side([4, 16])
    evaluated(BrightnessClassifier(), (4, 16), test=batches, calibration=batches, show_progress=True)
    shown = capsys.readouterr().err
    for kind in ("Recalibrating", "Evaluating"):
        assert any(line.startswith(kind) and "4/4" in line and "16 px" in line for line in shown.split("\r"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    evaluated(BrightnessClassifier(), (4, 16), test=batches, calibration=batches, show_progress=True)
    assert capsys.readouterr().err == ""


def test_a_network_without_batch_norm_has_no_recalibrated_figure():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert [point.recalibrated for point in curve_points(curve(net))] == [None, None]


def test_rare_classes_count_as_much_as_others_in_balanced_accuracy():
    def imbalanced(image_size):
        targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
        bright = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1.0])
        yield Batch((bright.view(-1, 1, 1, 1) - 0.5).expand(-1, 3, 4, 4).contiguous(), targets, image_size)

    net = BrightnessClassifier()
    found = evaluated(net, (4,), test=imbalanced(4), calibration=imbalanced(4))
    (point,) = curve_points(found)
    assert point.plain.top1 == 7 / 8
    assert point.plain.balanced == pytest.approx((1 + 1 / 2) / 2), "a class without test images is left out"
    classes = class_accuracies(found)
    assert [(one.class_number, one.num_images, one.top1) for one in classes] == [(0, 6, 1.0), (1, 2, 0.5)]
