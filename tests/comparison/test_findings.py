"""What a comparison says of itself: gains, losses and what is not known, each in its sentence."""

import re
from dataclasses import replace

import pytest

from sizemix.comparison.comparing import compare
from sizemix.comparison.findings import findings, p_text, points, sentence_at
from sizemix.comparison.statistics import Interval


def told(comparison):
    return {finding.subject: (finding.verdict, finding.text) for finding in findings(comparison)}


def test_gains_and_losses_are_told_alike(fixed_and_mixed):
    found = told(compare([fixed_and_mixed()]))
    assert found["sizes"] == (
        "both",
        "mixed against fixed at 4 test sizes: better at 16 and 40 px; worse at 28 px; not told apart at 24 px.",
    )
    evidence = r"\(95 % interval \S+ to \S+; Holm-adjusted p = 0.00\d; 3 paired seeds; over test images too: .*\)"
    assert found["gain"][0] == "better"
    assert re.match(rf"At 16 px mixed is 10\.\d points better {evidence}\.", found["gain"][1])
    assert found["loss"][0] == "worse"
    assert re.match(rf"At 28 px mixed is 1\.\d points worse {evidence}\.", found["loss"][1])


def test_no_worse_is_claimed_with_its_margin_or_not_at_all(fixed_and_mixed):
    sweep = fixed_and_mixed()
    verdict, text = told(compare([sweep]))["base size"]
    assert verdict == "worse"
    assert re.fullmatch(
        r"mixed is not shown to be no worse within 0.5 points at the base size of 28 px "
        r"\(-1\.\d points, one-sided 95 % bound over seeds and test images -[\d.]+\)\.",
        text,
    )
    verdict, text = told(compare([sweep], margin=0.05))["base size"]
    assert verdict == "shown"
    assert text.startswith("mixed is no worse within 5.0 points at the base size of 28 px (")


def test_no_worse_needs_other_test_images_to_agree(fake_run, tmp_path):
    for seed in range(3):  # the same accuracy, on quite other images
        fake_run(f"f{seed}", {16: 0.6, 28: 0.8}, "sizes=fixed", seed=seed)
        fake_run(f"m{seed}", {16: 0.8 + seed / 1000, 28: 0.8 + seed / 1000}, "sizes=mixed", seed=seed, hardness=7)
    comparison = compare([tmp_path])
    one, crossing = comparison.others[0].at(28), comparison.others[0].crossing
    for difference in (one, crossing):
        assert difference.test.lower_bound > -comparison.margin > difference.lower_bound
        assert difference.lower_bound == difference.over_images.lower_bound
    found = told(comparison)
    assert found["base size"][0] == found["smaller size"][0] == "unclear"
    said = "not shown to be no worse within 0.5 points"
    assert f"mixed is {said} at the base size of 28 px (0.1 points, one-sided 95 % bound" in found["base size"][1]
    assert said in found["smaller size"][1]


def test_the_baselines_accuracy_is_that_of_the_seeds_in_common(fake_run, tmp_path):
    for seed, top1 in enumerate((0.6, 0.6, 0.9)):
        fake_run(f"f{seed}", {16: 0.5, 28: top1}, "sizes=fixed", seed=seed)
        if seed < 2:
            fake_run(f"m{seed}", {16: 0.61, 28: 0.62}, "sizes=mixed", seed=seed)
    assert (
        "mixed reaches fixed's accuracy at its base size of 28 px (60.0 %) in the mean already at 16"
        in (told(compare([tmp_path]))["smaller size"][1])
    )


def test_one_run_of_the_baseline_proves_nothing_faster(fake_run, tmp_path):
    fake_run("f", {28: 0.8}, "sizes=fixed", validations=(0.5, 0.8))
    for seed in range(3):
        fake_run(f"m{seed}", {28: 0.9}, "sizes=mixed", seed=seed, validations=(0.85, 0.9))
    assert told(compare([tmp_path]))["reaching"][0] == "unclear"


def test_too_few_seeds_claim_nothing(fixed_and_mixed):
    found = told(compare([fixed_and_mixed(seeds=(0, 1))]))
    assert found["sizes"] == (
        "unclear",
        "mixed against fixed: no interval can be given with 2 paired seeds, at least 3 are needed; every difference "
        "may be chance.",
    )
    assert re.fullmatch(r"At 16 px mixed is [\d.]+ points ahead \(2 paired seeds: no interval can be given\)\.",
                        found["gain"][1])  # fmt: skip
    doubt = (
        "no worse within 0.5 points at the base size of 28 px is not known (2 paired seeds: no interval can be given)"
    )
    assert found["base size"][1] == f"Whether mixed is {doubt}."
    assert {verdict for verdict, _ in found.values()} <= {"unclear", "none"}


def test_arms_without_a_seed_in_common_are_not_compared(fake_run, tmp_path):
    fake_run("0", {28: 0.9}, "sizes=fixed", seed=0)
    fake_run("1", {28: 0.9}, "sizes=mixed", seed=1)
    assert told(compare([tmp_path]))["sizes"] == ("unclear", "mixed and fixed have no seed in common.")


def test_arms_without_a_size_in_common_are_not_compared(fake_run, tmp_path):
    fake_run("0", {28: 0.9}, "sizes=fixed", seed=0)
    fake_run("1", {16: 0.9}, "sizes=mixed", seed=0)
    assert told(compare([tmp_path]))["sizes"] == ("unclear", "mixed and fixed have no test size in common.")


def test_training_that_reaches_the_accuracy_sooner_says_after_how_much(fixed_and_mixed):
    verdict, text = told(compare([fixed_and_mixed()]))["reaching"]
    assert verdict == "better"
    assert re.fullmatch(
        r"fixed's final validation accuracy \(87\.1 %\) is reached by mixed after 0\.8\d( \(.*\))? x its training "
        r"compute and 0\.78 x its training time\.",
        text,
    )


def test_training_that_never_reaches_it_says_so(fake_run, tmp_path):
    for seed in range(3):
        fake_run(f"f{seed}", {28: 0.9}, "sizes=fixed", seed=seed, validations=(0.5, 0.9))
        fake_run(f"m{seed}", {28: 0.8}, "sizes=mixed", seed=seed, validations=(0.5, 0.8 + seed / 100))
    assert told(compare([tmp_path]))["reaching"] == (
        "worse",
        "fixed's final validation accuracy (90.0 %) is never reached by mixed: its best validation is 82.0 %.",
    )


def test_one_run_that_never_reaches_it_may_be_chance(fake_run, tmp_path):
    fake_run("f", {28: 0.9}, "sizes=fixed", validations=(0.5, 0.9))
    fake_run("m", {28: 0.8}, "sizes=mixed", validations=(0.5, 0.8))
    assert told(compare([tmp_path]))["reaching"][0] == "unclear"


def test_some_runs_that_reach_it_are_counted(fake_run, tmp_path):
    for seed in range(3):
        fake_run(f"f{seed}", {28: 0.9}, "sizes=fixed", seed=seed, validations=(0.5, 0.9))
        fake_run(f"m{seed}", {28: 0.8}, "sizes=mixed", seed=seed, validations=(0.5, 0.89 + seed / 100))
    verdict, text = told(compare([tmp_path]))["reaching"]
    assert verdict == "unclear"
    assert "is reached by 2 of 3 runs of mixed, never by the others, after 1.25" in text


def test_a_smaller_size_that_is_good_enough_is_told_with_its_cost_and_its_doubt(fake_run, tmp_path):
    for seed in range(3):
        fake_run(f"f{seed}", {16: 0.6, 24: 0.8, 28: 0.85}, "sizes=fixed", seed=seed)
        fake_run(f"m{seed}", {16: 0.7, 24: 0.851 + seed / 1000, 28: 0.86}, "sizes=mixed", seed=seed)
    verdict, text = told(compare([tmp_path]))["smaller size"]
    assert verdict == "shown"
    assert text == (
        "mixed reaches fixed's accuracy at its base size of 28 px (85.0 %) in the mean already at 24 px: 0.73 x the "
        "inference compute (difference 0.2, 95 % interval -0.1 to 0.5; no worse within 0.5 points)."
    )


def test_spending_is_a_fact(fixed_and_mixed):
    verdict, text = told(compare([fixed_and_mixed()]))["spending"]
    assert verdict == "none"
    assert text == (
        "mixed took 1.25 x the training compute, 1.17 x the training time, 1.00 x the images seen and 1.27 x the steps "
        "of fixed."
    )


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.1234, "12.3"), (-0.0004, "0.0"), (-0.021, "-2.1"), (-0.1004, "-10.0"), (0, "0.0")]
)
def test_points_have_one_digit_and_no_negative_zero(fraction, text):
    assert points(fraction) == text


@pytest.mark.parametrize(
    ("p_value", "text"), [(0.00012, "p < 0.001"), (0.0123, "p = 0.012"), (0.4567, "p = 0.46"), (1.0, "p = 1.00")]
)
def test_p_values_have_the_digits_that_mean_something(p_value, text):
    assert p_text(p_value) == text


def test_arms_that_were_validated_at_other_sizes_have_no_course_in_common(fake_run, tmp_path):
    for seed in range(3):
        fake_run(f"f{seed}", {28: 0.9}, "sizes=fixed", seed=seed)
        fake_run(f"s{seed}", {28: 0.8}, "sizes=fixed", "sizes.base_size=16", seed=seed)
    found = told(compare([tmp_path], baseline="28"))
    text = "When base_size=16 reaches base_size=28's final validation accuracy (80.0 %) is not known: "
    assert found["reaching"] == ("unclear", f"{text}it was validated at 16 px, not at 28 px.")
    text = "base_size=16 reaches base_size=28's accuracy at its base size of 28 px (90.0 %) at no test size."
    assert found["smaller size"] == ("unclear", text)


def test_an_interval_over_test_images_is_repeated_only_where_it_differs(fixed_and_mixed):
    versus = compare([fixed_and_mixed()]).others[0]
    one = versus.by_size[0]
    same = replace(one, over_images=Interval(one.test.low, one.test.high, one.test.lower_bound))
    assert sentence_at(versus, same).endswith("3 paired seeds; over test images too).")
    wider = replace(one, over_images=same.over_images._replace(low=one.test.low - 0.01))
    assert re.search(r"over test images too: \S+ to \S+\)\.$", sentence_at(versus, wider))
