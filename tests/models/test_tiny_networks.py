"""Every one of timm's tiny test networks, each of another family, through the life of a mixed-size run."""

import pytest
import timm
import torch
from torch import nn

from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, training_flops
from sizemix.models.batchnorm import recalibrated

ONE_SIZE = {"test_coatnet", "test_maxvit", "test_vit_relpos"}
TINY = [name for name in timm.list_models("test_*")]


def images(image_size):
    return torch.randn(4, 3, image_size, image_size, generator=torch.Generator().manual_seed(image_size))


@pytest.mark.parametrize("name", [name for name in TINY if name not in ONE_SIZE])
def test_it_trains_at_two_sizes_and_is_evaluated_at_a_third(name):
    net = build_backbone(name, num_classes=3)
    flops = training_flops(net, [96, 128, 160], name=name)
    assert flops[96] < flops[128] < flops[160]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for image_size in (96, 160):
        loss = nn.functional.cross_entropy(net(images(image_size)), torch.tensor([0, 1, 2, 0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    with recalibrated(net, [images(128)]), torch.no_grad():
        assert net(images(128)).shape == (4, 3)


@pytest.mark.parametrize("name", sorted(ONE_SIZE))
def test_a_network_of_one_size_is_refused_before_training(name):
    with pytest.raises(UserError, match=f"{name} does not take images of"):
        training_flops(build_backbone(name, num_classes=3), [96, 128, 160], name=name)
