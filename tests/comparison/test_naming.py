"""Arms are called what their user chose."""

import pytest
from omegaconf import OmegaConf

from sizemix.comparison.naming import arm_names, differing_options, value_text
from sizemix.comparison.reading import flat


@pytest.fixture
def options(compose):
    """The options of a run with some overrides, by full name."""

    def composed(*overrides):
        found = dict(flat(OmegaConf.to_container(compose(*overrides), resolve=True)))
        del found["evaluation.val_size"]  # makes no arm
        return found

    return composed


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([["sizes=fixed"], ["sizes=mixed"]], ["fixed", "mixed"]),
        ([["sizes=mixed"], ["sizes=mixed", "sizes.budget=B+"]], ["budget=D+", "budget=B+"]),
        ([["sizes=fixed"], ["sizes=mixed", "sizes.budget=B+"]], ["fixed", "mixed (budget=B+)"]),
        ([["sizes=mixed"], ["sizes=mixed", "sizes.budget=B+"], ["sizes=fixed"]],
         ["mixed (budget=D+)", "mixed (budget=B+)", "fixed"]),
        ([["sizes=mixed"], ["sizes=mixed_fast"], ["sizes=stages"]], ["mixed", "mixed_fast", "stages"]),
        ([["sizes=fixed"], ["sizes=fixed", "sizes.base_size=16"]], ["base_size=28", "base_size=16"]),
        ([["recipe.optimizer.lr=0.1"], ["recipe.optimizer.lr=0.2"]], ["lr=0.1", "lr=0.2"]),
        ([["sizes=fixed"], ["sizes=mixed", "recipe.optimizer.lr=0.1"]], ["fixed (lr=0.2)", "mixed (lr=0.1)"]),
        ([["model=resnet18"], ["model=resnet50"]], ["model=resnet18", "model=resnet50"]),
        ([["recipe=scratch"], ["recipe=adamw"]], ["recipe=scratch", "recipe=adamw"]),
        ([["augment=basic"], ["augment=strong"]], ["augment=basic", "augment=strong"]),
        ([["trainer.max_epochs=4", "sizes=stages"], ["trainer.max_epochs=8", "sizes=stages"]],
         ["max_epochs=4", "max_epochs=8"]),
        ([["+recipe.new=1"], []], ["new=1", "new=null"]),
    ],
)  # fmt: skip
def test_a_name_says_what_tells_an_arm_from_the_others(options, overrides, names):
    assert arm_names([options(*own) for own in overrides]) == names


def test_sizes_of_ones_own_are_named_by_the_nearest_choice_and_what_is_else(options):
    own = options("sizes=mixed", "sizes.image_sizes=[20,28]", "sizes.shares=[0.5,0.5]")
    assert arm_names([options("sizes=fixed"), own]) == ["fixed", "mixed (image_sizes=[20, 28], shares=[0.5, 0.5])"]


def test_a_schedule_of_ones_own_is_named_by_its_class(options):
    own = {**options("sizes=fixed"), "sizes._target_": "my.module.Waves", "sizes.period": 3}
    first, second = arm_names([options("sizes=mixed"), own])
    assert first == "mixed"
    assert second.startswith("Waves (")
    assert "period=3" in second


def test_options_that_end_alike_are_written_in_full():
    first, second = {"a.rate": 1, "b.rate": 2}, {"a.rate": 3, "b.rate": 4}
    assert arm_names([first, second]) == ["a.rate=1 (b.rate=2)", "a.rate=3 (b.rate=4)"]


def test_names_are_never_the_same():
    assert arm_names([{"a.x": [0.12345]}, {"a.x": [0.123451]}]) == ["x=[0.1235] (1)", "x=[0.1235] (2)"]


def test_absent_is_as_good_as_null():
    assert differing_options([{"a": None, "b": 1}, {"b": 2}]) == ["b"]


def test_values_are_short():
    assert value_text(0.0001) == "0.0001"
    assert value_text([1, 2.5, True]) == "[1, 2.5, true]"
    assert value_text([0.133333333] * 7) == "[0.1333, 0.1333, ..., 0.1333]"


def test_shipped_arms_are_called_by_their_files(compose):
    arms = ["fixed", "fixed_small", "mixed_bplus", "mixed_dplus", "mixed_dplus_unsmoothed", "fixres"]
    arms += ["fixed_smoothed", "scale_augmentation"]
    configs = [_of_arm(compose, f"arm={arm}") for arm in arms]
    assert arm_names(configs, [f"resnet20_cifar-{arm.replace('_', '-')}" for arm in arms]) == arms


def test_what_a_shipped_arm_does_not_say_itself_is_added(compose):
    configs = [_of_arm(compose, "arm=fixed", "recipe.optimizer.lr=0.4"), _of_arm(compose, "arm=mixed_bplus")]
    assert arm_names(configs, ["x-fixed", "x-mixed-bplus"]) == ["fixed (lr=0.4)", "mixed_bplus (lr=0.2)"]
    assert arm_names(configs, ["mine", "mine"]) == ["fixed (lr=0.4)", "mixed (budget=B+, lr=0.2)"]


def _of_arm(compose, *overrides):
    found = dict(flat(OmegaConf.to_container(compose(*overrides), resolve=True)))
    return {name: value for name, value in found.items() if name not in ("evaluation.val_size", "name")}
