import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.models.trainable import train_only


def trained_names(net):
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def a_step(net, *, frozen):
    net.train()
    for layer in frozen:
        layer.eval()
    optimizer = torch.optim.SGD([parameter for parameter in net.parameters() if parameter.requires_grad], lr=0.1)
    nn.functional.cross_entropy(net(torch.randn(4, 3, 64, 64)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()


def changed_by_a_step(net, *, frozen):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    a_step(net, frozen=frozen)
    return {name for name, value in net.state_dict().items() if not torch.equal(before[name], value)}


@pytest.mark.parametrize("name", ["resnet20_cifar", "test_efficientnet", "test_byobnet"])
def test_head_only_moves_nothing_else_and_no_statistics(name):
    net = build_backbone(name, num_classes=3)
    changed = changed_by_a_step(net, frozen=train_only(net, "head"))
    head = net.pretrained_cfg["classifier"]
    assert changed == {f"{head}.weight", f"{head}.bias"}


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet20_cifar", "stages.2.2.bn2"),
        ("resnet50", "layer4.2.bn3"),
        ("test_efficientnet", "bn2"),
        ("test_vit", "norm"),
        ("test_convnext", "head.norm"),
    ],
)
def test_the_last_norm_is_the_one_before_the_classifier(name, norm):
    net = build_backbone(name, num_classes=3)
    frozen = train_only(net, "head_and_last_norm")
    head = net.pretrained_cfg["classifier"]
    assert trained_names(net) == {f"{module}.{kind}" for module in (head, norm) for kind in ("weight", "bias")}
    assert net.get_submodule(norm) not in frozen


def test_the_last_norms_statistics_move_and_the_others_stay():
    net = build_backbone("resnet20_cifar", num_classes=3)
    changed = changed_by_a_step(net, frozen=train_only(net, "head_and_last_norm"))
    assert {name for name in changed if "running" in name} == {
        "stages.2.2.bn2.running_mean",
        "stages.2.2.bn2.running_var",
    }


@pytest.mark.parametrize("name", ["resnet20_cifar", "test_vit4", "test_efficientnet_gn", "test_efficientnet_evos"])
def test_norms_train_with_the_head_and_convolutions_do_not(name):
    net = build_backbone(name, num_classes=3)
    assert train_only(net, "norms") == []
    head = net.pretrained_cfg["classifier"]
    assert {f"{head}.weight", f"{head}.bias"} < trained_names(net)
    matrices = {name for name, parameter in net.named_parameters() if parameter.ndim > 1 and not name.startswith(head)}
    assert not matrices & trained_names(net)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d | nn.GroupNorm)]
    assert all(norm.weight.requires_grad for norm in norms)


def test_both_heads_of_a_distilled_network_train():
    net = build_backbone("deit_tiny_distilled_patch16_224", num_classes=3)
    train_only(net, "head")
    assert trained_names(net) == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_a_second_choice_replaces_the_first():
    net = build_backbone("resnet20_cifar", num_classes=3)
    train_only(net, "norms")
    train_only(net, "head")
    assert trained_names(net) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("part", ["norms", "head_and_last_norm"])
def test_a_network_without_norms_is_refused(part):
    net = build_backbone("test_nfnet", num_classes=3)
    with pytest.raises(UserError, match=f"with normalisation layers for {part}, got a NormFreeNet without; use head"):
        train_only(net, part)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_network_without_a_classifier_is_refused():
    with pytest.raises(UserError, match="expected a network with a classifier"):
        train_only(timm.create_model("test_resnet", num_classes=0), "head")


def test_a_network_of_ones_own_is_asked_for_its_classifier():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"a get_classifier\(\) method.*got a Sequential without"):
        train_only(net, "head")


def test_an_unknown_part_brings_the_known_ones():
    with pytest.raises(UserError, match="expected one of head, head_and_last_norm, norms, got 'tail'"):
        train_only(build_backbone("resnet20_cifar", num_classes=3), "tail")


@pytest.mark.parametrize(
    ("name", "stem", "head"),
    [("resnet20_cifar", "conv1", "fc"), ("test_resnet", "conv1.0", "fc"), ("test_vit", "patch_embed.proj", "head")],
)
def test_layer_decay_gives_the_stem_a_smaller_rate_than_the_head(name, stem, head):
    net = build_backbone(name, num_classes=3)
    optimizer = create_optimizer_v2(net, opt="sgd", lr=1.0, layer_decay=0.75)
    rates = {id(p): group["lr"] * group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == {id(parameter) for parameter in net.parameters()}
    assert rates[id(net.get_submodule(stem).weight)] < 0.3 < rates[id(net.get_submodule(head).weight)] == 1
