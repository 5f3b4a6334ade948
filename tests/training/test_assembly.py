import pytest

from sizemix.callbacks.gradient_smoothing import GradientSmoothing
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.sizes.spending import spending
from sizemix.training.assembly import assemble

_QUICK = ("data.train_images=100", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu")


@pytest.fixture
def assembled(compose, tmp_path):
    return lambda *overrides: assemble(compose(*_QUICK, *overrides), RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "smooths"),
    [
        (["sizes=mixed"], True),
        (["sizes=fixed"], False),
        (["sizes=fixed", "recipe.gradient_smoothing=true"], True),
        (["sizes=mixed", "recipe.gradient_smoothing=false"], False),
        (["sizes=mixed", "recipe=adamw"], False),
    ],
)
def test_gradients_are_smoothed_for_several_sizes_with_sgd_unless_told_otherwise(assembled, overrides, smooths):
    callbacks = assembled(*overrides).trainer.callbacks
    assert any(isinstance(callback, GradientSmoothing) for callback in callbacks) is smooths


def sizes_of(run):
    plan = run.scheduler.plan(num_images=9000, num_epochs=1)
    return {size: (shape.global_batch_size, shape.num_repeats) for size, shape in plan.inputs.shapes.items()}


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        (["sizes=fixed"], {28: (64, 1)}),
        (["sizes=fixed", "sizes.base_size=16"], {16: (64, 1)}),
        (
            ["sizes=mixed"],
            {16: (64, 3), 20: (64, 2), 24: (64, 1), 28: (64, 1), 32: (64, 1), 36: (64, 1), 40: (31, 1)},
        ),
        (["sizes=mixed_fast"], {12: (348, 1), 16: (196, 1), 28: (64, 1), 32: (49, 1)}),
        (["sizes=mixed_cifar"], {16: (64, 4), 24: (64, 2), 32: (64, 1), 48: (28, 1)}),
    ],
)
def test_the_shipped_regimes(assembled, overrides, sizes):
    assert sizes_of(assembled(*overrides)) == sizes


def test_compute_shares_follow_the_measured_cost_of_the_network(assembled):
    run = assembled("sizes=mixed", "sizes.share_of=compute", "model=resnet18", "recipe.base_batch_size=10")
    plan = run.scheduler.plan(num_images=9000, num_epochs=4)
    for row, share in zip(spending(plan).sizes, plan.inputs.shares[0].values(), strict=True):
        assert row.compute_share == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sizes._target_=sizemix.sizes.schedule.nowhere"], "sizes: "),
        (["+recipe.lr_schedule.gamma=3"], "recipe.lr_schedule: .*gamma"),
        (["trainer.strategy=foo"], "trainer: .*invalid strategy name"),
        (["+data.colour=red"], "data: .*colour"),
    ],
)
def test_what_a_target_does_not_take_is_named_with_its_place(assembled, overrides, message):
    with pytest.raises(UserError, match=message):
        assembled(*overrides)
