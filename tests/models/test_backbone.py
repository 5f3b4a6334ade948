import pytest
import timm
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group

from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, check_logits, preprocessing_of, training_flops


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
        ("vit_relpos_small_patch16_224", [160, 224], r"does not take images of \[160\] px .*it takes \[224\]"),
        ("vit_tiny_patch16_224", [160, 168], r"does not take images of \[168\] px .*divisible by patch size"),
        ("inception_v4", [32, 299], r"does not take images of \[32\] px"),
        ("crossvit_tiny_240", [160, 240], "costs the same at 160 and 240 px"),
    ],
)
def test_sizes_a_network_cannot_take_are_named_before_training(name, sizes, message):
    with pytest.raises(UserError, match=message) as refused:
        training_flops(build_backbone(name, num_classes=10), sizes, name=name)
    assert "\n" not in str(refused.value)


class Pair(nn.Module):
    def forward(self, images):
        return images, images


@pytest.mark.parametrize(
    ("net", "given"),
    [
        (build_backbone("resnet20_cifar", num_classes=7), r"shape \(2, 7\) from mine"),
        (nn.Conv2d(3, 10, 3), r"shape \(2, 10, 6, 6\)"),
        (Pair(), "a tuple"),
    ],
)
def test_a_network_that_does_not_give_a_logit_for_each_class_is_refused(net, given):
    check_logits(build_backbone("resnet20_cifar", num_classes=10), 8, num_classes=10, name="mine")
    with pytest.raises(UserError, match=rf"logits of shape \(2, 10\) .* 10 classes, got {given}"):
        check_logits(net, 8, num_classes=10, name="mine")


def test_nearby_sizes_that_strides_round_alike_are_accepted():
    net = build_backbone("resnet50", num_classes=10)
    flops = training_flops(net, [27, 28], name="resnet50")
    assert flops[27] == flops[28]


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "eva02_tiny_patch14_224",
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
    ],
)
def test_transformers_take_several_sizes_and_give_the_same_outputs_at_their_own(name):
    plain, ours = timm.create_model(name, num_classes=3).eval(), build_backbone(name, num_classes=3).eval()
    ours.load_state_dict(plain.state_dict())
    native = plain.pretrained_cfg["input_size"][-1]
    images = torch.randn(1, 3, native, native, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(plain(images), ours(images))
    half = 112 if "patch14" in name else 128
    flops = training_flops(ours, [half, native], name=name)
    assert flops[half] < 0.6 * flops[native]  # Swin fills its windows up


def test_what_the_user_says_of_sizes_is_kept():
    net = build_backbone("vit_tiny_patch16_224", num_classes=3, kwargs={"dynamic_img_size": False})
    with pytest.raises(UserError, match=r"does not take images of \[160\] px"):
        training_flops(net, [160, 224], name="vit")
    swin = build_backbone("swin_tiny_patch4_window7_224", num_classes=3, kwargs={"strict_img_size": True})
    with pytest.raises(UserError, match=r"does not take images of \[128\] px"):
        training_flops(swin, [128, 224], name="swin")


def test_preprocessing_is_that_of_the_published_weights():
    assert preprocessing_of(build_backbone("vit_tiny_patch16_224", num_classes=3)) == Preprocessing(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_ratio=0.9
    )
    assert preprocessing_of(build_backbone("resnet20_cifar", num_classes=3)).interpolation == "bilinear"


@pytest.mark.parametrize(("theirs", "ours"), [("lanczos", "bicubic"), ("nearest", "bilinear"), ("random", "bilinear")])
def test_other_interpolations_become_the_nearer_of_the_two_we_have(theirs, ours):
    net = build_backbone("test_resnet", num_classes=3)
    net.pretrained_cfg["interpolation"] = theirs
    assert preprocessing_of(net).interpolation == ours


def test_an_unknown_name_brings_similar_ones():
    with pytest.raises(UserError, match="got 'rsnet50'; did you mean resnet50"):
        build_backbone("rsnet50", num_classes=10)


def test_an_argument_the_network_does_not_take_is_named():
    with pytest.raises(UserError, match=r"resnet20_cifar cannot be built with \{'depth': 3\}"):
        build_backbone("resnet20_cifar", num_classes=10, kwargs={"depth": 3})


def test_the_cost_of_a_network_whose_batch_norms_are_synchronised_is_the_same(tmp_path):
    net = build_backbone("resnet20_cifar", num_classes=2)
    plain = training_flops(net, [8, 16], name="x")
    init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        assert training_flops(synchronised, [8, 16], name="x") == plain
        assert all(module.training for module in synchronised.modules())
    finally:
        destroy_process_group()
