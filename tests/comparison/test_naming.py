"""Arms are called what their user chose."""

import pytest
from omegaconf import OmegaConf

from sizemix.comparison.naming import differing_options, named, value_text
from sizemix.comparison.reading import flat


def arm_names(configs, run_names=()):
    return named(configs, run_names).names


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
        ([["sizes=fixed"], ["sizes=mixed", "recipe.optimizer.lr=0.1"]], ["fixed", "mixed"]),
        ([["model=resnet18"], ["model=resnet50"]], ["model=resnet18", "model=resnet50"]),
        ([["recipe=scratch"], ["recipe=adamw"]], ["recipe=scratch", "recipe=adamw"]),
        ([["augment=basic"], ["augment=strong"]], ["augment=basic", "augment=strong"]),
        ([["trainer.max_epochs=4", "sizes=stages"], ["trainer.max_epochs=8", "sizes=stages"]],
         ["max_epochs=4", "max_epochs=8"]),
        ([["+recipe.new=1"], []], ["new=1", "new=null"]),
        ([["recipe.optimizer.lr=0.1"], ["recipe.optimizer.lr=0.2", "augment=strong", "trainer.max_epochs=3"]],
         ["lr=0.1", "lr=0.2"]),
        ([["recipe.optimizer.lr=0.1"], ["recipe.optimizer.lr=0.2"],
          ["recipe.optimizer.lr=0.2", "recipe.label_smoothing=0.2"]],
         ["lr=0.1 (label_smoothing=0)", "lr=0.2 (label_smoothing=0)", "lr=0.2 (label_smoothing=0.2)"]),
    ],
)  # fmt: skip
def test_a_name_says_what_tells_an_arm_from_the_others(options, overrides, names):
    assert arm_names([options(*own) for own in overrides]) == names


def test_sizes_of_ones_own_are_named_by_the_nearest_choice_and_their_list_only_where_it_tells_arms_apart(options):
    own = options("sizes=mixed", "sizes.image_sizes=[20,28]", "sizes.shares=[0.5,0.5]")
    assert arm_names([options("sizes=fixed"), own]) == ["fixed", "mixed"]
    assert arm_names([options("sizes=fixed"), own, options("sizes=mixed")]) == [
        "fixed", "mixed (image_sizes=[20, 28])", "mixed"]  # fmt: skip


def test_a_number_is_said_rather_than_a_list(options):
    first = options("sizes=mixed", "sizes.image_sizes=[20,28]", "sizes.shares=[0.5,0.5]", "recipe.optimizer.lr=0.1")
    assert arm_names([options("sizes=fixed"), first, options("sizes=mixed")]) == [
        "fixed", "mixed (lr=0.1)", "mixed (lr=0.2)"]  # fmt: skip


def test_a_schedule_of_ones_own_is_named_by_its_class(options):
    own = {**options("sizes=fixed"), "sizes._target_": "my.module.Waves", "sizes.period": 3}
    assert arm_names([options("sizes=mixed"), own]) == ["mixed", "Waves (budget=constant)"]
    assert arm_names([own, {**own, "sizes.period": 4}]) == ["period=3", "period=4"]


def test_what_names_leave_out_is_known(options):
    own = options("sizes=mixed", "sizes.image_sizes=[20,28]", "sizes.shares=[0.5,0.5]", "recipe.optimizer.lr=0.1")
    assert named([options("sizes=fixed"), own]).untold == ["image_sizes", "shares", "lr"]
    assert named([options("sizes=fixed"), options("sizes=mixed")]).untold == []
    assert named([options("recipe=scratch"), options("recipe=adamw", "augment=strong")]).untold == ["augment"]
    rates = [options("sizes=fixed", f"recipe.optimizer.lr={lr}") for lr in (0.1, 0.05)]
    some_say_it = named([*rates, options("sizes=mixed")])
    assert some_say_it.names == ["fixed (lr=0.1)", "fixed (lr=0.05)", "mixed"]
    assert some_say_it.untold == ["lr"]
    budgets = named([options("sizes=fixed"), *(options("sizes=mixed", f"sizes.budget={one}") for one in ("B+", "D+"))])
    assert budgets.untold == [], "a fixed size has but one budget"


def test_names_that_a_user_gave_are_kept_where_no_two_are_alike(options):
    configs = [options("sizes=fixed"), options("sizes=mixed"), options("sizes=mixed", "recipe.optimizer.lr=0.1")]
    assert arm_names(configs, ["baseline", "ours", "ours, slow"]) == ["baseline", "ours", "ours, slow"]
    assert named(configs, ["baseline", "ours", "ours, slow"]).untold == ["sizes", "lr"]
    for not_all in (["baseline", "ours", "ours"], ["baseline", "ours", ""]):
        assert arm_names(configs, not_all) == ["fixed", "mixed (lr=0.2)", "mixed (lr=0.1)"]
    given_by_conf = ["resnet20_cifar-fixed", "resnet20_cifar-mixed", "resnet20_cifar-mixed-dplus"]
    assert arm_names(configs, given_by_conf)[0] == "fixed"


def test_options_that_end_alike_are_written_in_full():
    first, second = {"a.rate": 1, "b.rate": 2}, {"a.rate": 3, "b.rate": 4}
    third = {"a.rate": 1, "b.rate": 4}
    assert arm_names([first, second]) == ["a.rate=1", "a.rate=3"]
    assert arm_names([first, second, third]) == ["a.rate=1 (b.rate=2)", "a.rate=3 (b.rate=4)", "a.rate=1 (b.rate=4)"]


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
    assert named(configs, [f"resnet20_cifar-{arm.replace('_', '-')}" for arm in arms]).untold == []


def test_arms_of_one_name_are_told_apart_by_what_their_files_do_not_say(compose):
    configs = [_of_arm(compose, "arm=fixed", "recipe.optimizer.lr=0.4"), _of_arm(compose, "arm=mixed_bplus")]
    names = ["resnet20_cifar-fixed", "resnet20_cifar-mixed-bplus"]
    assert arm_names(configs, names) == ["fixed", "mixed_bplus"]
    assert named(configs, names).untold == ["lr"]
    assert arm_names(configs, ["mine", "mine"]) == ["fixed", "mixed (budget=B+)"]
    again = [*configs, _of_arm(compose, "arm=fixed")]
    assert arm_names(again, [*names, names[0]]) == ["fixed (lr=0.4)", "mixed_bplus", "fixed (lr=0.2)"]


def _of_arm(compose, *overrides):
    found = dict(flat(OmegaConf.to_container(compose(*overrides), resolve=True)))
    return {name: value for name, value in found.items() if name not in ("evaluation.val_size", "name")}
