"""Option match: arms of a comparison spend what training at the base size would."""

import json

import pytest

from sizemix.callbacks.gradient_smoothing import GradientSmoothing
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.sizes.matching import amount
from sizemix.training.assembly import assemble
from sizemix.training.forecast import forecast
from sizemix.training.matching import kept_step_seconds, with_matched_length
from sizemix.training.plan_inputs import Images
from sizemix.training.run import carry_out

_ARMS = (
    *("fixed", "fixed_small", "fixed_large", "mixed_constant", "mixed_bplus", "mixed_dplus"),
    *("mixed_dplus_unsmoothed", "fixed_smoothed", "fixres", "scale_augmentation"),
)


def planned(compose, *options):
    return forecast(compose(*options), Images(9000, 10), probe=False).plan


@pytest.mark.parametrize("arm", _ARMS)
def test_every_arm_takes_the_compute_of_the_fixed_one(compose, arm):
    fixed = planned(compose, "arm=fixed")
    plan = planned(compose, f"arm={arm}", "match=compute")
    assert amount(plan, "compute") == pytest.approx(amount(fixed, "compute"), rel=0.01)


def test_a_schedule_that_has_further_sizes_when_it_is_longer_is_matched(compose):
    fixed = planned(compose, "arm=fixed", "trainer.max_epochs=3")
    plan = planned(compose, "sizes=ramp", "match=compute", "trainer.max_epochs=3")
    assert set(plan.image_sizes) > set(planned(compose, "sizes=ramp", "trainer.max_epochs=3").image_sizes)
    assert amount(plan, "compute") == pytest.approx(amount(fixed, "compute"), rel=0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("arm=fixres", "match=compute", "length_factor=0.5", "trainer.max_epochs=2"), "the run would have 1 epochs"),
        (("training.last_epoch=0.5", "match=compute"), "training.last_epoch: expected 1 where match"),
    ],
)
def test_lengths_that_do_not_fit_are_the_doing_of_match(compose, options, said):
    with pytest.raises(UserError, match=said):
        planned(compose, *options)


def test_fixres_is_not_smoothed_as_fixed_is_not(compose, tmp_path):
    for arm, smoothed in (("fixres", False), ("fixed", False), ("mixed_dplus", True), ("fixed_smoothed", True)):
        options = (f"arm={arm}", "data.train_images=200", "model.name=resnet8_cifar")
        run = assemble(compose(*options), RunFolder(tmp_path / arm))
        assert any(isinstance(one, GradientSmoothing) for one in run.trainer.callbacks) is smoothed, arm


def test_steps_and_images_are_matched_as_well(compose):
    fixed, by_steps = planned(compose, "arm=fixed"), planned(compose, "arm=mixed_bplus", "match=steps")
    assert by_steps.num_steps == pytest.approx(fixed.num_steps, abs=7)
    assert planned(compose, "arm=mixed_bplus").images_seen == pytest.approx(fixed.images_seen, abs=200)


def test_time_is_matched_by_what_steps_are_measured_to_take(compose):
    config = compose("arm=mixed_dplus", "match=time")
    cost = {size: float(size**2) for size in (16, 20, 24, 28, 32, 36, 40)}
    asked = []

    def step_seconds(local_images):
        asked.append(dict(local_images))
        return {size: 0.001 * images for size, images in local_images.items()}  # whatever the size

    found = with_matched_length(config, num_images=9000, cost=cost, step_seconds=step_seconds)
    assert asked == [{16: 192, 20: 128, 24: 64, 28: 64, 32: 64, 36: 64, 40: 31}], "images of a step, copies counted"
    assert found.trainer.max_epochs < 8
    assert 0 < found.training.last_epoch <= 1
    assert config.trainer.max_epochs == 8, "left as it is"


def test_what_was_measured_is_kept_for_other_ranks_and_a_resumed_run(tmp_path):
    folder = RunFolder(tmp_path)
    first = kept_step_seconds(lambda images: {16: 0.25, 20: 0.5}, folder, rank=0)({16: 1, 20: 1})
    again = kept_step_seconds(lambda images: {16: 9.0}, folder, rank=1)({16: 1, 20: 1})
    assert first == again == {16: 0.25, 20: 0.5}


def test_memory_decides_a_batch_too_late_to_be_matched(compose):
    with pytest.raises(UserError, match=r"match: expected images, and length_factor 1, with sizes.budget=memory"):
        with_matched_length(compose("sizes.budget=memory", "match=compute"), num_images=9, cost={}, step_seconds=dict)


def test_a_matched_run_trains_for_a_part_of_its_last_epoch(compose, tmp_path):
    folder = RunFolder.create(
        tmp_path / "run",
        compose(
            *(
                "arm=mixed_dplus",
                "match=compute",
                "model.name=resnet8_cifar",
                "data.train_images=200",
                "sizes.base_size=14",
                "sizes.multiple_of=2",
                "trainer.max_epochs=2",
            ),
            *("recipe.base_batch_size=20", "evaluation.eval_sizes=[14]", "evaluation.calibration_images=20"),
            *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "evaluation.measure=gflops"),
        ),
    )
    carry_out(folder)
    summary = json.loads(folder.summary_file.read_text())
    assert summary["trained"]["steps"] == summary["plan"]["steps"]
    assert summary["plan"]["images_seen"] < 390
    assert summary["trained"]["stopped_early"] is False
