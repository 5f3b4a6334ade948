import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from sizemix.callbacks.gradient_smoothing import GradientSmoothing, smooth_gradients
from sizemix.callbacks.size_scheduler import SizeScheduler
from sizemix.data.datamodule import SizedDataModule
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.classifier import ImageClassifier
from sizemix.training.optim import CosineLR


def gradients(norm):
    """Two tensors whose joint norm is as given."""
    return [torch.tensor([0.6 * norm]), torch.tensor([[0.0, 0.8 * norm]])]


def joint_norm(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=10))
def test_it_follows_the_equation(norms):
    running, by_hand = None, None
    for norm in norms:
        step = gradients(norm)
        running = smooth_gradients(step, running, decay=0.9)
        by_hand = norm if by_hand is None else 0.9 * by_hand + 0.1 * norm
        assert running.item() == pytest.approx(by_hand, rel=1e-4)
        assert joint_norm(step) == pytest.approx(by_hand, rel=1e-4)


def test_the_first_step_is_not_rescaled():
    step = gradients(3.0)
    smooth_gradients(step, None, decay=0.9)
    assert joint_norm(step) == pytest.approx(3.0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_leaves_the_running_mean(broken):
    running = smooth_gradients(gradients(2.0), None, decay=0.9)
    running = smooth_gradients(gradients(broken), running, decay=0.9)
    assert running.item() == pytest.approx(2.0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_first_norm_that_is_not_finite_does_not_start_the_mean(broken):
    running = smooth_gradients(gradients(broken), None, decay=0.9)
    step = gradients(4.0)
    running = smooth_gradients(step, running, decay=0.9)
    assert running.item() == pytest.approx(4.0)
    assert joint_norm(step) == pytest.approx(4.0)


def test_a_gradient_of_zero_stays_zero():
    running = smooth_gradients(gradients(2.0), None, decay=0.9)
    step = gradients(0.0)
    smooth_gradients(step, running, decay=0.9)
    assert joint_norm(step) == 0


class Norms(pl.Callback):
    """Notes the gradient norm of every step, at its place among the callbacks."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(joint_norm([parameter.grad for parameter in pl_module.parameters()]))


def test_in_training_every_step_gets_the_running_mean_as_its_norm(tiny_dataset, quiet_trainer):
    torch.manual_seed(0)
    before, after = Norms(), Norms()
    model = ImageClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)),
        architecture={"name": "linear"},
        num_classes=2,
        optimizer={"opt": "momentum", "lr": 0.1},
        lr_schedule=CosineLR(),
        val_size=8,
    )
    scheduler = SizeScheduler(MixedSizes((8,), (1.0,)), budget="constant", base_size=8, base_batch_size=5, seed=0)
    trainer = quiet_trainer(scheduler, before, GradientSmoothing(), after)
    trainer.fit(model, datamodule=SizedDataModule(tiny_dataset, val_size=8))
    assert len(before.seen) == 8
    running = before.seen[0]
    for raw, smoothed in zip(before.seen, after.seen, strict=True):
        running = 0.9 * running + 0.1 * raw
        assert smoothed == pytest.approx(running, rel=1e-4)
