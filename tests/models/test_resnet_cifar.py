import pytest
import timm
import torch
from torch import nn

from sizemix.models.backbone import build_backbone


@pytest.mark.parametrize(("depth", "parameters"), [(20, 272_474), (44, 661_338), (56, 855_770)])
def test_depth_and_parameters_are_those_of_the_paper(depth, parameters):
    net = timm.create_model(f"resnet{depth}_cifar")
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == depth
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(parameters, rel=0.005)


@pytest.mark.parametrize("image_size", [16, 27, 40])
def test_it_takes_every_size(image_size):
    net = build_backbone("resnet20_cifar", num_classes=7)
    assert net(torch.randn(2, 3, image_size, image_size)).shape == (2, 7)


def test_blocks_start_as_identities_and_shortcuts_that_change_shape_are_projections():
    net = build_backbone("resnet20_cifar", num_classes=10)
    blocks = [block for stage in net.stages for block in stage]
    assert all((block.bn2.weight == 0).all() for block in blocks)
    projections = [isinstance(block.shortcut, nn.Sequential) for block in blocks]
    assert projections == [False] * 3 + [True, False, False] * 2


def test_stochastic_depth_grows_with_the_block():
    net = build_backbone("resnet20_cifar", num_classes=10, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in net.stages for block in stage]
    assert rates == pytest.approx([0.05 * number for number in range(9)])


def test_the_head_can_be_replaced_or_taken_away():
    net = build_backbone("resnet20_cifar", num_classes=10)
    net.reset_classifier(3)
    assert net(torch.randn(1, 3, 16, 16)).shape == (1, 3)
    net.reset_classifier(0)
    assert net(torch.randn(1, 3, 16, 16)).shape == (1, 64)
