import pytest
import torch

from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, training_flops


def test_flops_are_those_known_of_resnet50():
    net = build_backbone("resnet50", num_classes=1000)
    flops = training_flops(net, [224, 112], name="resnet50")
    assert flops[224] == pytest.approx(3 * 2 * 4.09e9, rel=0.005)  # 4.09 G multiply-adds forward
    assert flops[112] == pytest.approx(flops[224] / 4, rel=0.06)  # the last map is 4 x 4, not 3.5 x 3.5


def test_the_probe_leaves_the_network_as_it_is():
    net = build_backbone("resnet20_cifar", num_classes=10).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    training_flops(net, [16, 32], name="resnet20_cifar")
    assert not net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        (
            "vit_tiny_patch16_224",
            [160, 224],
            r"does not take images of \[160\] px .*it takes \[224\].*dynamic_img_size",
        ),
        ("inception_v4", [32, 299], r"does not take images of \[32\] px"),
        ("crossvit_tiny_240", [160, 240], "costs the same at 160 and 240 px"),
    ],
)
def test_sizes_a_network_cannot_take_are_named_before_training(name, sizes, message):
    with pytest.raises(UserError, match=message) as refused:
        training_flops(build_backbone(name, num_classes=10), sizes, name=name)
    assert "\n" not in str(refused.value)


def test_nearby_sizes_that_strides_round_alike_are_accepted():
    net = build_backbone("resnet50", num_classes=10)
    flops = training_flops(net, [27, 28], name="resnet50")
    assert flops[27] == flops[28]


def test_a_vision_transformer_takes_several_sizes_when_told_so():
    net = build_backbone("vit_tiny_patch16_224", num_classes=10, kwargs={"dynamic_img_size": True})
    flops = training_flops(net, [96, 224], name="vit")
    assert flops[96] < flops[224] / 5


def test_an_unknown_name_brings_similar_ones():
    with pytest.raises(UserError, match="got 'rsnet50'; did you mean resnet50"):
        build_backbone("rsnet50", num_classes=10)


def test_an_argument_the_network_does_not_take_is_named():
    with pytest.raises(UserError, match=r"resnet20_cifar cannot be built with \{'depth': 3\}"):
        build_backbone("resnet20_cifar", num_classes=10, kwargs={"depth": 3})
