import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizemix.errors import UserError
from sizemix.evaluation.advice import Wish, advise, difference
from sizemix.evaluation.cost import SizeCost
from sizemix.evaluation.predictions import Answers, Predictions


def predictions(**correct_by_size):
    """From s16=array of right and wrong."""
    sizes = tuple(int(name[1:]) for name in correct_by_size)
    right = np.stack(list(correct_by_size.values()))
    nothing = np.zeros(right.shape, dtype=np.float32)
    answers = Answers(right.astype(np.int32), nothing, nothing, right)
    return Predictions(sizes, np.ones(right.shape[1], dtype=np.int32), "digest", answers, None)


def first(number, of=1000):
    return np.arange(of) < number


COSTS = [SizeCost(16, 0.1, 1.0), SizeCost(24, 0.2, 2.0), SizeCost(32, 0.4, 3.0)]


def test_the_cheapest_of_those_that_are_no_different_within_noise_is_advised():
    found = advise(predictions(s16=first(700), s24=first(800), s32=first(801)), COSTS, reference_size=32)
    assert (found.image_size, found.alike, found.top1) == (24, (32,), 0.8)
    assert found.sentence == (
        "Deploy at 24 px: -0.1 ± 0.3 points against 32 px, 0.50 x the GFLOPs, 1.50 x faster (chosen on 1,000 "
        "validation images; no different within noise, for more GFLOPs: 32 px)."
    )


def test_a_clear_winner_is_advised_although_it_costs_more():
    found = advise(predictions(s16=first(700), s24=first(750), s32=first(800)), COSTS, reference_size=24)
    assert found.image_size == 32
    assert found.sentence.startswith("Deploy at 32 px: +5.0 ± 1.4 points against 24 px, 2.00 x the GFLOPs, 1.50 x ")
    alone = advise(predictions(s16=first(700), s24=first(750), s32=first(800)), COSTS, reference_size=32)
    assert alone.sentence == "Deploy at 32 px: 80.0% (chosen on 1,000 validation images)."


def test_without_measured_time_the_sentence_speaks_of_operations():
    counted = [SizeCost(cost.image_size, cost.gflops) for cost in COSTS]
    found = advise(predictions(s16=first(800), s24=first(800), s32=first(800)), counted, reference_size=32)
    assert "0.25 x the GFLOPs (chosen" in found.sentence


def test_too_few_images_are_said_to_be_too_few():
    few = {f"s{size}": first(18, of=24) for size in (16, 24, 32)}
    found = advise(predictions(**few), COSTS, reference_size=32)
    assert "(chosen on 24 validation images, too few to see less than 12 points; no different" in found.sentence


@pytest.mark.parametrize(
    ("wish", "size"),
    [
        (Wish(max_latency_ms=2.5), 24),
        (Wish(max_gflops=0.1), 16),
        (Wish(min_top1=0.72), 24),
        (Wish(min_top1=0.5), 16),
        (Wish(max_latency_ms=5, min_top1=0.78), 32),
    ],
)
def test_wishes_are_fulfilled(wish, size):
    right = predictions(s16=first(700), s24=first(750), s32=first(800))
    assert advise(right, COSTS, reference_size=32, wish=wish).image_size == size


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(max_latency_ms=0.5), "at most 0.5 ms"),
        (Wish(max_gflops=0.01), "at most 0.01 GFLOPs"),
        (Wish(min_top1=0.9), "at least 90.0% top-1"),
    ],
)
def test_a_wish_that_no_size_fulfils_is_refused_with_what_there_is(wish, said):
    right = predictions(s16=first(700), s24=first(750), s32=first(800))
    with pytest.raises(UserError, match=rf"a size with {said}, got none of 16, 24, 32 px.*0.1 GFLOPs.*1 ms.*80.0%"):
        advise(right, COSTS, reference_size=32, wish=wish)


def test_the_difference_is_the_paired_one():
    right, reference = first(600), np.roll(first(600), 50)
    change = right.astype(float) - reference.astype(float)
    found = difference(right, reference)
    assert found.points == 0.0
    assert found.half_width == pytest.approx(100 * 1.959964 * change.std() / np.sqrt(1000), rel=1e-5)
    assert difference(first(600), first(600)).half_width == pytest.approx(0.3), "three of a thousand"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=3, max_size=3), st.integers(0, 2), st.integers(0, 2**16))
def test_what_is_advised_is_level_with_the_best_and_nothing_cheaper_is(numbers, reference, seed):
    rng = np.random.default_rng(seed)
    right = predictions(
        **{f"s{size}": rng.permutation(first(n, 200)) for size, n in zip((16, 24, 32), numbers, strict=True)}
    )
    found = advise(right, COSTS, reference_size=(16, 24, 32)[reference])
    best = int(np.argmax(right.correct.mean(1)))
    chosen = right.image_sizes.index(found.image_size)
    assert chosen == best or difference(right.correct[chosen], right.correct[best]).within_noise
    for cheaper in range(chosen):
        assert not difference(right.correct[cheaper], right.correct[best]).within_noise
