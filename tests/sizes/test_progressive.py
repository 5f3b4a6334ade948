import pytest

from sizemix.errors import UserError
from sizemix.sizes.progressive import MovingShares, alternating, finetuned, moving, ramp, stages


def test_stages_are_equally_long_and_grow_to_the_base_size():
    schedule = stages(base_size=300, num_epochs=8, relative_sizes=[0.57, 0.713333, 0.856667, 1.0])
    assert schedule.sizes == (171, 171, 214, 214, 257, 257, 300, 300)
    assert schedule.image_sizes == (171, 214, 257, 300)
    assert schedule.shares(epoch=3) == {214: 1.0}


def test_stages_of_odd_runs_differ_by_an_epoch_at_most():
    sizes = stages(base_size=32, num_epochs=11, image_sizes=[8, 16, 32]).sizes
    lengths = [sizes.count(size) for size in (8, 16, 32)]
    assert sum(lengths) == 11
    assert max(lengths) - min(lengths) == 1


def test_a_ramp_grows_in_a_straight_line_and_stays_at_the_base_size():
    sizes = ramp(base_size=224, num_epochs=10, smallest=96, full_size_part=0.2, multiple_of=1).sizes
    assert sizes[0] == 96
    assert sizes[4] == 96 + 128 / 2
    assert sizes[8:] == (224, 224)
    assert list(sizes) == sorted(sizes)


def test_a_ramp_waits_for_its_start_and_rounds_to_multiples():
    sizes = ramp(base_size=224, num_epochs=10, start=0.3, multiple_of=32).sizes
    assert set(sizes[:4]) == {128}, "half of 224 is 112, rounded up to 128"
    assert all(size % 32 == 0 for size in sizes)


@pytest.mark.parametrize("num_epochs", [2, 3, 7])
def test_a_ramp_ends_at_the_base_size_however_short_the_run(num_epochs):
    assert ramp(base_size=224, num_epochs=num_epochs, multiple_of=32).sizes[-1] == 224


def test_alternating_sizes_take_turns_and_end_with_the_largest():
    assert alternating(base_size=224, num_epochs=5, image_sizes=[180, 224]).sizes == (224, 180, 224, 180, 224)


def test_moving_shares_begin_at_the_smallest_and_end_at_the_largest_size():
    schedule = moving(base_size=224, num_epochs=5, image_sizes=[128, 160, 192, 224])
    first, middle, last = (schedule.shares(epoch) for epoch in (0, 2, 4))
    assert max(first, key=first.get) == 128
    assert middle[160] == pytest.approx(middle[192])
    assert last == pytest.approx({128: first[224], 160: first[192], 192: first[160], 224: first[128]})
    for shares in (first, middle, last):
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0.1 / 4


def test_moving_shares_are_those_of_timm():
    from timm.data.scheduled_sampler import ScheduledBatchSampler

    timms = ScheduledBatchSampler(
        range(1000), [8, 8, 8, 8], num_batches=10, choice_schedule="progressive", schedule_epochs=5
    )
    ours = MovingShares((128, 160, 192, 224), 5, spread=0.65, uniform_part=0.1)
    for epoch in range(5):
        assert list(ours.shares(epoch).values()) == pytest.approx(timms.choice_weights_for_epoch(epoch).tolist())


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (stages, {"num_epochs": 2, "image_sizes": [8, 16, 28]}, "trainer.max_epochs: expected at least 3 .*, got 2"),
        (stages, {"num_epochs": 4, "image_sizes": [28, 8]}, "increasing"),
        (stages, {"num_epochs": 4}, "expected sizes.image_sizes or sizes.relative_sizes"),
        (alternating, {"num_epochs": 1, "image_sizes": [8, 28]}, "trainer.max_epochs: expected at least 2"),
        (ramp, {"num_epochs": 1}, "trainer.max_epochs: expected at least 2"),
        (ramp, {"num_epochs": 4, "smallest": 32}, "increasing"),
        (ramp, {"num_epochs": 4, "smallest": 15, "multiple_of": 4}, "multiples of 4 .*, got 15"),
        (ramp, {"num_epochs": 4, "start": 0.5, "full_size_part": 0.6}, "leave room to grow, got 0.5 and 0.6"),
        (
            finetuned,
            {"num_epochs": 4, "last_part": 0.5, "relative_size": 1.1, "multiple_of": 14},
            "expected another size",
        ),
        (moving, {"num_epochs": 4, "image_sizes": [28]}, "expected several sizes to move between"),
        (moving, {"num_epochs": 1, "image_sizes": [8, 28]}, "trainer.max_epochs: expected at least 2"),
        (moving, {"num_epochs": 4, "image_sizes": [8, 28], "spread": 0.0}, "sizes.spread"),
        (moving, {"num_epochs": 4, "image_sizes": [8, 28], "uniform_part": 1.5}, "sizes.uniform_part"),
    ],
)
def test_what_does_not_fit_is_refused(schedule, arguments, message):
    with pytest.raises(UserError, match=message):
        schedule(base_size=28, **arguments)


def test_a_narrow_window_chooses_the_nearest_size():
    schedule = MovingShares((8, 16, 24), 4, spread=0.01, uniform_part=0.0)
    assert [max(shares, key=shares.get) for shares in map(schedule.shares, range(4))] == [8, 16, 16, 24]
    assert sum(schedule.shares(1).values()) == pytest.approx(1)
