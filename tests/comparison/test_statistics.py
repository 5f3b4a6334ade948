"""Intervals and tests against scipy and cases worked out by hand."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sizemix.comparison.statistics import bootstrap_errors, bootstrap_intervals, holm, is_no_worse, paired_test

_SOME_P = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_case_worked_out_by_hand():
    # Mean 2, standard deviation 1, standard error 1 / sqrt(3); t of two degrees of freedom: 4.303 and 2.920.
    found = paired_test([1.0, 2.0, 3.0])
    assert (found.mean, found.num_pairs) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.30265 / np.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(2 + 4.30265 / np.sqrt(3), abs=1e-4)
    assert found.lower_bound == pytest.approx(2 - 2.91999 / np.sqrt(3), abs=1e-4)
    assert found.p_value == pytest.approx(0.0742, abs=1e-4)


@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=3, max_size=9))
def test_it_agrees_with_scipy(differences):
    found = paired_test(differences)
    if np.ptp(differences) < 1e-9:
        assert found.low is None
        return
    reference = stats.ttest_1samp(differences, 0)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(reference.pvalue)
    one_sided = stats.ttest_1samp(differences, 0, alternative="greater").confidence_interval(0.95)
    assert found.lower_bound == pytest.approx(one_sided.low)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.2], [0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])
def test_without_a_known_spread_there_is_no_interval(differences):
    found = paired_test(differences)
    assert found.mean == pytest.approx(np.mean(differences))
    assert found.low is found.high is found.lower_bound is found.p_value is None


def test_nineteen_of_twenty_intervals_hold_the_truth():
    samples = np.random.default_rng(0).normal(0.02, 0.01, size=(2000, 4))
    found = [paired_test(sample) for sample in samples]
    assert np.mean([one.low < 0.02 < one.high for one in found]) == pytest.approx(0.95, abs=0.015)
    assert np.mean([one.lower_bound < 0.02 for one in found]) == pytest.approx(0.95, abs=0.015)


def test_holms_own_order_of_multiplication():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1, none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(_SOME_P)
def test_holm_keeps_the_order_and_stays_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= 1
        assert corrected <= len(p_values) * raw + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    smallest = int(order[0])
    assert adjusted[smallest] == pytest.approx(min(1, len(p_values) * p_values[smallest]))


@given(st.permutations([0.001, 0.01, 0.02, 0.2, 0.5]))
def test_holm_does_not_depend_on_the_order_it_is_given(p_values):
    assert dict(zip(p_values, holm(p_values), strict=True)) == {
        0.001: 0.005,
        0.01: 0.04,
        0.02: 0.06,
        0.2: 0.4,
        0.5: 0.5,
    }


def test_no_worse_rules_out_a_loss_of_the_margin():
    assert is_no_worse(-0.004, margin=0.005)
    assert not is_no_worse(-0.005, margin=0.005)
    assert not is_no_worse(-0.006, margin=0.005)


def test_the_bootstrap_of_images_alone_is_the_binomial_one():
    # Seeds that agree on every image: what is left is the sampling of images, standard error sqrt(.2 * .8 / 2000).
    one = np.zeros((1, 1, 2000), dtype=np.int8)
    one[..., :400] = 1
    alike = np.repeat(one, 4, axis=0)
    error = np.sqrt(0.2 * 0.8 / 2000)
    assert bootstrap_errors(alike)[0] == pytest.approx(error, rel=0.06)
    (found,) = bootstrap_intervals(alike)
    assert found == pytest.approx((0.2 - 1.96 * error, 0.2 + 1.96 * error, 0.2 - 1.645 * error), abs=0.0015)


def test_the_bootstrap_of_seeds_alone_is_students_t():
    # All images of a seed agree, at 0, 0 and 1: mean 1/3, variance 1/3, standard error 1/3, two degrees of freedom.
    differences = np.zeros((3, 1, 50), dtype=np.int8)
    differences[2] = 1
    assert bootstrap_errors(differences)[0] == pytest.approx(1 / 3, rel=0.05)
    (found,) = bootstrap_intervals(differences)
    test = paired_test([0.0, 0.0, 1.0])
    assert found == pytest.approx((test.low, test.high, test.lower_bound), rel=0.06)


def test_differences_that_never_vary_have_no_width():
    assert bootstrap_intervals(np.ones((3, 1, 20), dtype=np.int8)) == [pytest.approx((1, 1, 1))]


def test_the_bootstrap_is_the_same_each_time():
    differences = np.random.default_rng(1).integers(-1, 2, size=(3, 2, 100)).astype(np.int8)
    first, again = (bootstrap_intervals(differences, num_resamples=200) for _ in range(2))
    other = bootstrap_intervals(differences, num_resamples=200, seed=1)
    np.testing.assert_array_equal(first, again)
    assert np.any(np.array(first) != np.array(other))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 6), st.integers(1, 3), st.integers(20, 80))
def test_the_bootstrap_holds_the_mean_and_changes_sign_with_the_arms(seed, seeds, sizes, images):
    differences = np.random.default_rng(seed).integers(-1, 2, size=(seeds, sizes, images)).astype(np.int8)
    found = bootstrap_intervals(differences, num_resamples=300)
    mean = differences.mean(axis=(0, 2))
    assert [(low + high) / 2 for low, high, _ in found] == pytest.approx(mean, abs=1e-6)
    for place, (low, high, lower_bound) in enumerate(found):
        assert low <= lower_bound <= mean[place]
        alone = paired_test(differences[:, place].mean(1))
        if alone.low is not None:
            ends = np.array((alone.low - low, high - alone.high, alone.lower_bound - lower_bound))
            assert (ends >= -1e-9).all(), "images only add doubt"
    swapped = bootstrap_intervals(-differences, num_resamples=300)
    np.testing.assert_allclose([one[:2] for one in swapped], [(-high, -low) for low, high, _ in found], atol=1e-6)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.03, 0.05), (0.01, 0.3)])
def test_about_nineteen_of_twenty_bootstrap_intervals_hold_the_truth(seeds, of_seeds, of_images):
    generator = np.random.default_rng(2)
    holds = []
    for trial in range(200):
        chance = 0.5 + generator.normal(0, of_seeds, size=(seeds, 1)) + generator.normal(0, of_images, size=(1, 300))
        differences = (generator.random((seeds, 300)) < np.clip(chance, 0, 1)).astype(np.int8)[:, None]
        (found,) = bootstrap_intervals(differences, num_resamples=150, seed=trial)
        holds.append((found.low < 0.5 < found.high, found.lower_bound < 0.5))
    assert (np.mean(holds, axis=0) > 0.92).all()


def test_ten_sizes_five_seeds_and_ten_thousand_images_take_seconds():
    differences = np.random.default_rng(0).integers(-1, 2, size=(5, 10, 10_000)).astype(np.int8)
    begin = time.process_time()
    bootstrap_intervals(differences)
    assert time.process_time() - begin < 10
