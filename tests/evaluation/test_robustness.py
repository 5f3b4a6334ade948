from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sizemix.data.datamodule import SizedDataModule
from sizemix.evaluation.robustness import robustness


class Brightest(nn.Module):
    """Says 1 where some part of the image is bright, which neither scale nor shift changes."""

    def __init__(self, part=slice(None)):
        super().__init__()
        self.part = part
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        bright = images[..., self.part, self.part].amax((1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


@pytest.fixture
def datamodule(tiny_dataset):
    datamodule = SizedDataModule(tiny_dataset, val_size=8, eval_batch_size=5)
    datamodule.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
    )
    return datamodule


def test_what_scale_and_shift_leave_is_found_steady(datamodule):
    (found,) = robustness(
        Brightest(), datamodule, image_sizes=[8], statistics={}, autocast=nullcontext, show_progress=False
    )
    assert found.image_size == 8
    assert found.shift_consistency == 1.0
    assert set(found.top1_by_scale) == {0.5, 0.71, 1.41, 2.0}
    assert found.top1_by_scale[2.0] == 1.0


def test_a_network_that_looks_at_a_corner_loses_small_objects(datamodule):
    """The border that small objects get is 0, between dark and bright, and it decides."""
    net = Brightest(slice(0, 1))
    (found,) = robustness(net, datamodule, image_sizes=[8], statistics={}, autocast=nullcontext, show_progress=False)
    assert found.top1_by_scale[0.5] == 0.5
    assert found.top1_by_scale[1.41] == 1.0


def test_an_answer_that_depends_on_single_pixels_is_not_steady(datamodule):
    class Sign(nn.Module):
        def forward(self, images):
            first = images[:, 0, 0, 0] - images[:, 0, 0, 1]
            return torch.stack([-first, first], dim=1)

    (found,) = robustness(Sign(), datamodule, image_sizes=[8], statistics={}, autocast=nullcontext, show_progress=False)
    assert 0.1 < found.shift_consistency < 0.9


def test_the_statistics_of_the_size_are_used(datamodule):
    class Normed(Brightest):
        def forward(self, images):
            return super().forward(self.norm(images))

    def top1(mean):
        statistics = {8: {"norm.running_mean": torch.full((3,), mean), "norm.running_var": torch.ones(3)}}
        (found,) = robustness(
            Normed(), datamodule, image_sizes=[8], statistics=statistics, autocast=nullcontext, show_progress=False
        )
        return found.top1_by_scale[2.0]

    assert top1(0.0) == 1.0
    assert top1(-10.0) == 0.5, "everything looks bright"


def test_the_network_is_left_as_it_was(datamodule):
    net = Brightest()
    statistics = {8: {"norm.running_mean": torch.ones(3), "norm.running_var": torch.ones(3)}}
    robustness(net, datamodule, image_sizes=[8], statistics=statistics, autocast=nullcontext, show_progress=False)
    assert net.training
    assert torch.equal(net.norm.running_mean, torch.zeros(3))
