import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizemix.sizes.matching import Length, amount, compute, matched_length
from sizemix.sizes.plan import plan_run
from sizemix.sizes.progressive import stages
from sizemix.sizes.schedule import MixedSizes

_FIXED = MixedSizes((32,), (1.0,))
_SECONDS = {16: 0.3, 24: 0.7, 32: 1.0, 48: 2.1}


def plan(schedule, length, *, budget="D+", batch=20, num_images=1000):
    return plan_run(
        schedule,
        budget=budget,
        base_size=32,
        base_batch_size=batch,
        num_images=num_images,
        num_epochs=length.num_epochs,
        last_epoch=length.last_epoch,
        seed=0,
    )


def matched(match, plan_of, *, num_epochs):
    baseline = plan(_FIXED, Length(num_epochs, 1.0), budget="constant")

    def spent(plan):
        return amount(plan, match, seconds=_SECONDS)

    length = matched_length(plan_of, target=spent(baseline), amount_of=spent, num_epochs=num_epochs, least_part=0.06)
    return length, spent(plan_of(length)), spent(baseline)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["images", "steps", "compute", "time"]),
    st.sampled_from(["constant", "B+", "D+", "B+D+"]),
    st.integers(1, 12),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_runs_of_any_shares_and_budget_spend_what_the_fixed_one_does(match, budget, num_epochs, weights):
    schedule = MixedSizes((16, 24, 32, 48), tuple(weight / sum(weights) for weight in weights))
    one_step = plan(schedule, Length(1, 1.0), budget=budget)
    length, spent, target = matched(match, lambda length: plan(schedule, length, budget=budget), num_epochs=num_epochs)
    largest = max(
        amount(one_step, match, seconds=_SECONDS) / one_step.num_steps * 5,
        {"images": 80, "steps": 1, "compute": 20 * 4 * 48**2, "time": 2.1}[match],
    )
    assert abs(spent - target) <= 2 * largest, "a few steps, as every size has whole ones"
    assert length.num_epochs >= 1
    assert 0 < length.last_epoch <= 1


def test_the_fixed_run_is_as_long_as_it_was():
    for match in ("images", "steps", "compute", "time"):
        length, spent, target = matched(match, lambda length: plan(_FIXED, length, budget="constant"), num_epochs=5)
        assert (length, spent) == (Length(5, 1.0), target)


def test_a_schedule_that_moves_with_the_epochs_stretches():
    def staged(length):
        schedule = stages(base_size=32, num_epochs=length.num_epochs, image_sizes=[16, 24, 32])
        return plan(schedule, length, budget="constant")

    length, spent, target = matched("compute", staged, num_epochs=9)
    assert length.num_epochs > 13, "small stages are cheap"
    assert spent == pytest.approx(target, rel=0.02)
    assert {spec.image_size for spec in staged(length).epoch_specs(length.num_epochs - 1)} == {32}


def test_a_last_epoch_that_would_have_no_step_is_left_out():
    assert Length.of(3.01, least_part=0.05) == Length(3, 1.0)
    assert Length.of(3.5, least_part=0.05) == Length(4, 0.5)
    assert Length.of(0.01, least_part=0.05) == Length(1, 0.05)
    assert Length.of(3.0, least_part=0.05) == Length(3, 1.0)


def test_compute_counts_every_copy():
    mixed = plan(MixedSizes((16, 32), (0.5, 0.5)), Length(1, 1.0))
    steps = {size: mixed.steps_at(size) for size in (16, 32)}
    assert compute(mixed) == pytest.approx(steps[16] * 20 * 4 * 16**2 + steps[32] * 20 * 32**2)


def test_half_a_last_epoch_shows_half_a_pass_in_the_configured_shares():
    half = plan(MixedSizes((16, 32), (0.25, 0.75)), Length(3, 0.5), batch=10)
    assert half.images_seen == pytest.approx(2500, abs=10)
    last = half.steps_at(32, epoch=2) / half.epoch_length(2)
    assert last == pytest.approx(0.75, abs=0.03)
    whole = plan(MixedSizes((16, 32), (0.25, 0.75)), Length(3, 1.0), batch=10)
    assert [half.spec(step) for step in range(100)] == [whole.spec(step) for step in range(100)]
    assert half.fingerprint != whole.fingerprint
