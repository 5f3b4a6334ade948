"""recipe.loss_scale and recipe.lr_scaling: steps of other batches than the base batch."""

import pytest
import pytorch_lightning as pl
import torch

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.sizes.budget import step_shapes
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.assembly import assemble
from sizemix.training.optim import CosineLR, lr_factor_by_step
from sizemix.training.run import fit

_SMALL = (
    "data.train_images=100",
    "sizes.image_sizes=[8,16]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=16",
    "sizes.budget=B+",
    "recipe.base_batch_size=10",
    "recipe.optimizer.opt=momentum",
    "recipe.optimizer.momentum=0",
    "recipe.optimizer.weight_decay=0",
    "recipe.lr_schedule.warmup=0",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)


@pytest.mark.parametrize(("scaling", "factor_at_8"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_learning_rate_of_a_step_follows_its_batch(scaling, factor_at_8):
    shapes = step_shapes((8, 16), budget="B+", base_size=16, base_batch_size=10)
    schedule = MixedSizes((8, 16), (0.5, 0.5))
    plan = plan_sizes(schedule, shapes=shapes, num_images=200, num_epochs=1, seed=0, base_size=16)
    scaled = lr_factor_by_step(CosineLR(), plan, scaling=scaling, base_batch_size=10)
    unscaled = lr_factor_by_step(CosineLR(), plan)
    sizes = [plan.spec(step).image_size for step in range(plan.num_steps)]
    assert set(sizes) == {8, 16}
    for step, size in enumerate(sizes):
        assert scaled(step) == pytest.approx(unscaled(step) * (factor_at_8 if size == 8 else 1))


class Weights(pl.Callback):
    def __init__(self):
        self.by_step = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.by_step.append(torch.cat([parameter.detach().flatten() for parameter in pl_module.net.parameters()]))


def first_update(compose, folder, *options):
    """How far the weights moved in the first step, which has a batch of 40."""
    run = assemble(compose(*_SMALL, *options), RunFolder(folder))
    weights = Weights()
    run.trainer.callbacks.append(weights)
    fit(run, RunFolder(folder))
    assert run.scheduler.planned.spec(0).global_batch_size == 40
    return (weights.by_step[1] - weights.by_step[0]).norm().item()


@pytest.mark.parametrize("option", ["loss_scale", "lr_scaling"])
def test_a_step_of_four_base_batches_moves_four_times_as_far_when_scaled_linearly(compose, tmp_path, option):
    plain = ("recipe.gradient_smoothing=false", "sizes.image_sizes=[8]", "sizes.shares=[1.0]")
    unscaled = first_update(compose, tmp_path / "plain", *plain)
    scaled = first_update(compose, tmp_path / "scaled", *plain, f"recipe.{option}=linear")
    assert scaled == pytest.approx(4 * unscaled, rel=1e-4)


def test_smoothing_is_left_out_or_refused_where_the_loss_is_scaled(compose, tmp_path):
    run = assemble(compose(*_SMALL, "recipe.loss_scale=sqrt"), RunFolder(tmp_path))
    assert not any(type(callback).__name__ == "GradientSmoothing" for callback in run.trainer.callbacks)
    with pytest.raises(UserError, match="expected gradient_smoothing=false with loss_scale=sqrt"):
        assemble(compose(*_SMALL, "recipe.loss_scale=sqrt", "recipe.gradient_smoothing=true"), RunFolder(tmp_path))
    run = assemble(compose(*_SMALL, "recipe.lr_scaling=sqrt"), RunFolder(tmp_path))
    assert any(type(callback).__name__ == "GradientSmoothing" for callback in run.trainer.callbacks)
