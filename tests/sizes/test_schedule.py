import pytest

from sizemix.errors import UserError
from sizemix.sizes.schedule import MixedSizes, fixed, mixed, size_range


def test_sizes_are_generated_around_the_base_size_and_rounded():
    schedule = mixed(base_size=32, relative_sizes=[4 / 7, 1.0, 10 / 7], multiple_of=4)
    assert schedule.image_sizes == (20, 32, 44)
    assert schedule.shares(epoch=3) == {20: 1 / 3, 32: 1 / 3, 44: 1 / 3}


def test_own_sizes_are_taken_as_they_are():
    schedule = mixed(base_size=28, image_sizes=[20, 30], shares=[0.25, 0.75], multiple_of=10)
    assert schedule.shares(epoch=0) == {20: 0.25, 30: 0.75}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_sizes": [20, 30], "multiple_of": 4}, "multiples of 4 .*, got 30; use 28 or 32"),
        ({"image_sizes": [2], "multiple_of": 4}, "got 2; use 4"),
        ({"image_sizes": [32, 16]}, r"increasing, got \[32, 16\]; use \[16, 32\]"),
        ({"image_sizes": [16, 16]}, "increasing"),
        ({"image_sizes": [0, 16]}, "positive whole pixels"),
        ({"image_sizes": []}, "at least one image size"),
        ({"image_sizes": [16, 32], "shares": [1.0]}, "one share for each of the 2 image sizes"),
        ({"image_sizes": [16, 32], "shares": [0.5, 0.6]}, "sum to 1, got .* with sum 1.1"),
        ({"image_sizes": [16, 32], "shares": [0.0, 1.0]}, "positive"),
        ({"image_sizes": [16, 32], "shares": [float("nan"), 1.0]}, "positive"),
        ({"relative_sizes": [1.0, 1.05], "multiple_of": 4}, "coincide"),
        ({"relative_sizes": [1.0], "multiple_of": 5}, "multiples of 5 .*, got 28; use 25 or 30"),
        ({}, "got neither"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(UserError, match=message) as refused:
        mixed(base_size=28, **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("relative_size", [4 / 7, 10 / 7])
def test_a_specialist_is_one_for_another_size(relative_size):
    assert fixed(base_size=224, relative_size=relative_size, multiple_of=32).image_sizes != (224,)
    with pytest.raises(UserError, match=r"expected another size than the base size, got .* x 32 px, which is 32 px"):
        fixed(base_size=32, relative_size=relative_size, multiple_of=32)


def test_the_schedule_checks_itself_without_the_factory():
    with pytest.raises(UserError, match="increasing"):
        MixedSizes((32, 16), (0.5, 0.5))


def test_a_range_has_every_multiple_between_its_bounds():
    schedule = size_range(base_size=224, multiple_of=32)
    assert schedule.image_sizes == (128, 160, 192, 224, 256, 288, 320)
    assert schedule.shares(epoch=0)[128] == schedule.shares(epoch=0)[320] == pytest.approx(1 / 7)
    assert size_range(base_size=224, smallest=96, largest=160, multiple_of=32).image_sizes == (96, 128, 160)


def test_a_range_can_give_every_size_the_same_pixels():
    shares = size_range(base_size=224, smallest=96, largest=192, multiple_of=32, power=-2).shares(epoch=0)
    assert sum(shares.values()) == pytest.approx(1)
    assert [share * size**2 for size, share in shares.items()] == pytest.approx([shares[96] * 96**2] * 4)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [({"smallest": 64, "largest": 32}, "increasing"), ({"smallest": 30, "largest": 64}, "multiples of 32 .*, got 30")],
)
def test_a_range_without_multiples_is_refused(bounds, message):
    with pytest.raises(UserError, match=message):
        size_range(base_size=64, multiple_of=32, **bounds)
