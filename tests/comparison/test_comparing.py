"""Which runs are compared with which, and what comes out."""

import json

import pytest

from sizemix.comparison.comparing import compare
from sizemix.errors import UserError

_LEVEL = {16: 0.7, 28: 0.9}


def test_runs_that_differ_in_seed_and_machine_alone_are_one_arm(fake_run, tmp_path):
    fake_run("a", _LEVEL, "sizes=fixed", seed=0)
    fake_run("b", _LEVEL, "sizes=fixed", "trainer.devices=2", "data.num_workers=4", "logger=tensorboard", seed=1)
    fake_run("c", _LEVEL, "sizes=mixed", seed=0)
    comparison = compare([tmp_path])
    assert [(arm.name, len(arm.runs)) for arm in comparison.arms] == [("fixed", 2), ("mixed", 1)]


def test_seeds_are_paired(fixed_and_mixed):
    comparison = compare([fixed_and_mixed()])
    (versus,) = comparison.others
    assert versus.seeds == (0, 1, 2)
    fixed, mixed = comparison.arms
    expected = [mixed.by_seed[seed].accuracy[16] - fixed.by_seed[seed].accuracy[16] for seed in range(3)]
    assert versus.at(16).test.mean == pytest.approx(sum(expected) / 3)
    assert [one.image_size for one in versus.by_size] == [16, 24, 28, 40]
    assert {one.image_size: one.verdict for one in versus.by_size} == {
        16: "better",
        24: "unclear",
        28: "worse",
        40: "better",
    }
    assert all(one.over_images.low < one.test.mean < one.over_images.high for one in versus.by_size)


def test_without_predictions_there_are_intervals_over_seeds_alone(fixed_and_mixed):
    comparison = compare([fixed_and_mixed(predictions=False)])
    (versus,) = comparison.others
    assert versus.at(16).verdict == "better"
    assert versus.at(16).over_images is None
    assert comparison.remarks == ("All runs: no predictions_test.npz, so intervals come from seeds alone.",)


def test_two_seeds_give_no_interval(fixed_and_mixed):
    (versus,) = compare([fixed_and_mixed(seeds=(0, 1))]).others
    assert {one.verdict for one in versus.by_size} == {"unclear"}
    assert versus.at(16).test.low is None
    assert versus.at(16).over_images is None


def test_a_seed_that_one_arm_lacks_is_left_out_of_the_pairs(fixed_and_mixed, fake_run, tmp_path):
    fixed_and_mixed()
    fake_run("more", {16: 0.1, 24: 0.1, 28: 0.1, 40: 0.1}, "sizes=mixed", seed=7)
    comparison = compare([tmp_path])
    assert comparison.others[0].seeds == (0, 1, 2)
    assert "mixed and fixed do not have the same seeds: 7 in one" in comparison.remarks[0]


def test_a_damaged_run_leaves_the_rest_comparable(fixed_and_mixed):
    sweep = fixed_and_mixed()
    (sweep / "0-fixed-seed2" / "summary.json").write_text("{")
    comparison = compare([sweep])
    assert [one.state for one in comparison.set_aside] == ["damaged"]
    assert comparison.others[0].seeds == (0, 1)


def test_runs_on_other_images_stand_aside(fixed_and_mixed, fake_run, tmp_path):
    fixed_and_mixed()
    for name, change in (("digest", {"data_fingerprint": "other"}), ("classes", {"class_names": ["a", "b", "c"]})):
        file = fake_run(name, _LEVEL, "sizes=mixed", seed=8) / "summary.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    set_aside = {one.path.name: one for one in compare([tmp_path]).set_aside}
    assert {one.state for one in set_aside.values()} == {"unmatched"}
    assert "another data_fingerprint" in set_aside["digest"].reason
    assert "tested on 1,000 images of 3 classes, most others on" in set_aside["classes"].reason


def test_runs_that_were_trained_on_other_images_are_another_arm(fake_run, tmp_path):
    for seed in (0, 1):
        for images in ("clean", "noisy"):
            fake_run(f"{images}{seed}", _LEVEL, f"+data.root={images}", seed=seed, training_images=images)
    arms = compare([tmp_path]).arms
    assert [(arm.name, len(arm.runs)) for arm in arms] == [
        ("training_images=clean", 2),
        ("training_images=noisy", 2),
    ]


def test_the_same_run_twice_counts_once(fixed_and_mixed, fake_run, tmp_path):
    fixed_and_mixed()
    fake_run("z/again", _LEVEL, "sizes=fixed", seed=1)
    comparison = compare([tmp_path])
    assert [(one.path.name, one.state) for one in comparison.set_aside] == [("again", "duplicate")]
    assert "seed 1" in comparison.set_aside[0].reason


def test_mixed_versions_are_named(fixed_and_mixed, fake_run, tmp_path):
    fixed_and_mixed()
    fake_run("more", {16: 0.8, 24: 0.8, 28: 0.8, 40: 0.8}, "sizes=mixed", seed=3, versions={"torch": "2.12.0"})
    fake_run("most", {16: 0.8, 24: 0.8, 28: 0.8, 40: 0.8}, "sizes=fixed", seed=3)
    assert compare([tmp_path]).remarks == (
        "torch is not the same for all runs: 2.11.0 in fixed seed 0 and 6 more; 2.12.0 in mixed seed 3.",
    )


def test_names_are_short_and_what_they_leave_out_is_told_once(fake_run, tmp_path):
    fake_run("0", _LEVEL, "sizes=fixed", "recipe.optimizer.lr=0.4")
    fake_run("1", _LEVEL, "sizes=mixed", "recipe.optimizer.weight_decay=0.1", "trainer.max_epochs=3")
    comparison = compare([tmp_path])
    assert [arm.name for arm in comparison.arms] == ["fixed", "mixed"]
    told = "Arms also differ in what their names leave out: lr, weight_decay, max_epochs; the table of options has"
    assert comparison.remarks[0].startswith(told)


def test_training_at_one_size_is_the_baseline_unless_another_is_named(fake_run, tmp_path):
    fake_run("0", _LEVEL, "sizes=mixed")
    fake_run("1", _LEVEL, "sizes=mixed", "sizes.budget=B+")
    fake_run("2", _LEVEL, "sizes=fixed")
    assert compare([tmp_path]).baseline.name == "fixed"
    assert compare([tmp_path], baseline="B+").baseline.name == "mixed (budget=B+)"
    with pytest.raises(UserError, match=r"--baseline: expected one of the arms .* got mixed, which fits 2 of them"):
        compare([tmp_path], baseline="mixed")
    with pytest.raises(UserError, match="which fits none of them"):
        compare([tmp_path], baseline="resnet")


def test_a_specialist_for_another_size_is_not_the_baseline(fake_run, tmp_path):
    for seed in (0, 1):
        folder = fake_run(f"s{seed}", _LEVEL, "sizes=fixed", "sizes.relative_size=0.571428571", seed=seed)
        summary = folder / "summary.json"
        summary.write_text(summary.read_text().replace('"image_size": 28, "steps"', '"image_size": 16, "steps"'))
    fake_run("z", _LEVEL, "sizes=fixed")
    assert compare([tmp_path]).baseline.name == "relative_size=1"


@pytest.mark.parametrize(
    "other", ["length_factor=1.29", "recipe.gradient_smoothing=true", "+augment.rescale=[0.5,1.0]"]
)
def test_a_missing_seed_makes_no_other_arm_the_baseline(fake_run, tmp_path, other):
    for seed in (0, 1, 2):
        fake_run(f"a{seed}", _LEVEL, "sizes=fixed", other, seed=seed)
    for seed in (0, 1):
        fake_run(f"b{seed}", _LEVEL, "sizes=fixed", seed=seed)
    assert len(compare([tmp_path]).baseline.runs) == 2


def test_one_arm_is_nothing_to_compare(fake_run, tmp_path):
    fake_run("0", _LEVEL, "sizes=mixed")
    (fake_run("1", _LEVEL, "sizes=fixed") / "summary.json").unlink()
    with pytest.raises(
        UserError, match=r"at least two arms, got one .runs that differ in nothing but seed: 1. .*unfinished"
    ):
        compare([tmp_path])


def test_compute_is_in_flops_where_all_runs_know_them_else_in_images_at_the_base_size(fixed_and_mixed, tmp_path):
    comparison = compare([fixed_and_mixed()])
    fixed, mixed = map(comparison.spent, comparison.arms)
    assert comparison.unit.name == "GFLOPs"
    assert fixed.compute == pytest.approx(3 * 0.08 * 3000)
    older = compare([fixed_and_mixed(seeds=(3, 4), new=False), tmp_path])
    assert older.unit.name == "images at 28 px"
    assert older.spent(older.baseline).compute == pytest.approx(3000)
    ratio = older.spent(older.arms[1]).compute / older.spent(older.baseline).compute
    assert ratio == pytest.approx(mixed.compute / fixed.compute, rel=0.02)


def test_the_final_accuracy_of_the_baseline_is_reached_at_the_first_validation_not_below(fixed_and_mixed):
    comparison = compare([fixed_and_mixed()])
    assert comparison.target == pytest.approx(0.871)
    assert comparison.own_reaching.compute == pytest.approx((1.0, 1.0)), "seed 0 ends below the mean"
    reaching = comparison.others[0].reaching
    assert reaching.num_runs == 3
    fixed, mixed = map(comparison.spent, comparison.arms)
    assert max(reaching.compute) == pytest.approx(2 / 3 * mixed.compute / fixed.compute, rel=0.05)
    assert reaching.seconds == pytest.approx((2 / 3 * 70 / 60,) * 3)


def test_the_crossing_is_the_smallest_size_as_good_as_the_baseline_at_its_base_size(fake_run, tmp_path):
    for seed in range(3):
        better = seed / 1000
        fake_run(f"f{seed}", {16: 0.6, 24: 0.8, 28: 0.85, 40: 0.8}, "sizes=fixed", seed=seed)
        accuracy = {16: 0.7, 24: 0.851 + better, 28: 0.86, 40: 0.8}
        fake_run(f"m{seed}", accuracy, "sizes=mixed", seed=seed)
    crossing = compare([tmp_path]).others[0].crossing
    assert crossing.image_size == 24
    assert crossing.accuracy == pytest.approx(0.852)
    assert crossing.test.mean == pytest.approx(0.002)
    assert crossing.relative_gflops == pytest.approx(24**2 / 28**2)
