import math
from copy import deepcopy

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sizemix.errors import UserError
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.optim import CosineLR, StepLR, build_optimizer, lr_factor_by_step


def test_cosine_rises_then_falls_to_zero():
    schedule = CosineLR(warmup=0.2)
    assert schedule.factor(0.0) == pytest.approx(0.01)
    assert schedule.factor(0.2) == pytest.approx(1.0)
    assert schedule.factor(0.6) == pytest.approx(0.5)
    assert schedule.factor(1.0) == pytest.approx(0.0)


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_factors_stay_between_zero_and_one(progress, warmup):
    assert -1e-12 <= CosineLR(warmup).factor(progress) <= 1 + 1e-12
    assert 0 < StepLR([0.5, 0.8], warmup=warmup).factor(progress) <= 1 + 1e-12


def test_steps_drop_at_their_milestones():
    schedule = StepLR([0.5, 0.75], gamma=0.1)
    assert [schedule.factor(at) for at in (0.0, 0.49, 0.5, 0.8)] == pytest.approx([1, 1, 0.1, 0.01])


def test_the_learning_rate_follows_images_seen_not_steps():
    shapes = step_shapes((8, 16), budget="B+", base_size=16, base_batch_size=8)
    plan = plan_sizes(
        MixedSizes((8, 16), (0.5, 0.5)), shapes=shapes, num_images=512, num_epochs=2, seed=0, base_size=16
    )
    factor = lr_factor_by_step(CosineLR(), plan)
    for step in range(plan.num_steps):
        seen = plan.images_before(step) / plan.images_seen
        assert factor(step) == pytest.approx(0.5 * (1 + math.cos(math.pi * seen)))
    assert factor(plan.num_steps) == factor(plan.num_steps + 5) == pytest.approx(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineLR(warmup=1.0), "warmup: expected a fraction"),
        (lambda: StepLR([0.8, 0.5]), "milestones: expected increasing fractions"),
        (lambda: StepLR([0.5, 1.2]), "milestones"),
        (lambda: StepLR([0.5], gamma=math.nan), "gamma: expected a positive number, got nan"),
        (lambda: build_optimizer(nn.Linear(2, 2), {"opt": "sdg", "lr": 0.1}), "got 'sdg'"),
        (lambda: build_optimizer(nn.Linear(2, 2), {"opt": "adamw", "lr": 0.1, "nesterov": True}), "does not take"),
        (lambda: build_optimizer(nn.Linear(2, 2), {"opt": "adahessian", "lr": 0.1}), "first derivatives .* adahessian"),
        (lambda: build_optimizer(nn.Linear(2, 2), {"opt": "sgd", "lr": -1.0}), "Invalid learning rate"),
        (
            lambda: build_optimizer(nn.Linear(2, 2), {"opt": "fusedsgd", "lr": 0.1}, fused=True),
            "recipe.optimizer: fusedsgd",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_norms_and_biases_are_not_decayed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, {"opt": "momentum", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})
    decayed = [p.ndim for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    spared = [p.ndim for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]]
    assert decayed == [4]
    assert spared == [1, 1, 1]
    assert not optimizer.defaults["nesterov"]


def test_layer_decay_lowers_the_learning_rate_once_a_layer_towards_the_input():
    net = timm.create_model("test_resnet", num_classes=2)
    optimizer = build_optimizer(net, {"opt": "adamw", "lr": 0.8, "weight_decay": 0.05, "layer_decay": 0.5})
    names = {parameter: name for name, parameter in net.named_parameters()}
    lrs = {names[parameter]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    layers = ("fc", "layer4", "layer3", "layer2", "layer1", "conv1")
    expected = {layer: 0.8 * 0.5**depth for depth, layer in enumerate(layers)} | {"bn1": 0.8 * 0.5**5}
    assert lrs == pytest.approx({name: expected[name.split(".")[0]] for name in names.values()})
    assert not any("lr_scale" in group for group in optimizer.param_groups), "nothing is left to apply it again"


def test_a_learning_rate_schedule_keeps_the_ratio_between_layers():
    net = timm.create_model("test_resnet", num_classes=2)
    optimizer = build_optimizer(net, {"opt": "momentum", "lr": 0.8, "layer_decay": 0.5})
    peak = [group["lr"] for group in optimizer.param_groups]
    schedule = LambdaLR(optimizer, lambda step: 0.5 + 0.25 * step)
    for factor in (0.5, 0.75):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([factor * lr for lr in peak])
        optimizer.step()
        schedule.step()


def stepped(settings, *, fused):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 2))
    optimizer = build_optimizer(net, {"lr": 0.1, "weight_decay": 0.01, **settings}, fused=fused)
    for _ in range(3):
        net(torch.randn(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()
    return optimizer, [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize(("opt", "has_one"), [("momentum", True), ("adamw", True), ("lamb", False)])
def test_one_kernel_updates_all_parameters_where_torch_has_one_and_to_the_same_values(opt, has_one):
    optimizer, parameters = stepped({"opt": opt}, fused=True)
    assert bool(optimizer.defaults.get("fused")) is has_one
    torch.testing.assert_close(parameters, stepped({"opt": opt}, fused=False)[1])


def test_a_damped_momentum_begins_as_torch_begins_it():
    damped = {"opt": "momentum", "momentum": 0.9, "dampening": 0.5}
    _, asked_for = stepped({**damped, "fused": True}, fused=False)
    torch.testing.assert_close(asked_for, stepped(damped, fused=False)[1])


def test_whoever_asks_for_no_fused_optimizer_gets_none():
    optimizer = build_optimizer(nn.Linear(2, 2), {"opt": "sgd", "lr": 0.1, "fused": False}, fused=True)
    assert not optimizer.defaults["fused"]


@pytest.mark.parametrize("settings", [{"opt": "adagrad"}, {"opt": "adamw", "foreach": True}])
def test_no_kernel_is_taken_that_some_devices_lack_or_that_the_settings_exclude(settings):
    assert not build_optimizer(nn.Linear(2, 2), {"lr": 0.1, **settings}, fused=True).defaults.get("fused")


@pytest.mark.parametrize("opt", ["momentum", "adamw"])
def test_a_layer_that_is_left_out_of_the_first_steps_trains_later(opt):
    net = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    nets = [net, deepcopy(net)]
    optimizers = [build_optimizer(copy, {"opt": opt, "lr": 0.1}, fused=copy is net) for copy in nets]
    for used in (1, 2, 2):
        for copy, optimizer in zip(nets, optimizers, strict=True):
            for layer in copy[:used]:
                layer(torch.ones(3, 2)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(list(net.parameters()), list(nets[1].parameters()))
