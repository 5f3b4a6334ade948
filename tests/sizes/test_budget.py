import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizemix.errors import UserError
from sizemix.sizes.budget import StepShape, fitting_batches, step_shapes


def shapes(sizes, budget, base_size, base_batch_size, **more):
    by_size = step_shapes(sizes, budget=budget, base_size=base_size, base_batch_size=base_batch_size, **more)
    return {size: (shape.global_batch_size, shape.num_repeats) for size, shape in by_size.items()}


def test_the_authors_cifar_regimes():
    sizes = (16, 24, 32, 48)
    assert shapes(sizes, "constant", 32, 64) == {16: (64, 1), 24: (64, 1), 32: (64, 1), 48: (64, 1)}
    assert shapes(sizes, "B+", 32, 64) == {16: (256, 1), 24: (114, 1), 32: (64, 1), 48: (28, 1)}
    assert shapes(sizes, "D+", 32, 64) == {16: (64, 4), 24: (64, 2), 32: (64, 1), 48: (28, 1)}
    assert shapes(sizes, "B+D+", 32, 64) == {16: (128, 2), 24: (85, 1), 32: (64, 1), 48: (43, 1)}


def test_copies_under_a_half_shrink_the_batch_instead():
    assert shapes((288, 320), "D+", 224, 256) == {288: (256, 1), 320: (125, 1)}


def test_every_shard_of_a_step_gets_equally_many_images():
    by_size = shapes((24,), "B+", 32, 64, num_shards=4)
    assert by_size == {24: (4 * round(16 * (32 / 24) ** 2), 1)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": "C+"}, "expected one of constant, B\\+, D\\+, B\\+D\\+, memory, got 'C\\+'"),
        ({"base_batch_size": 0}, "at least 1 image, got 0"),
        ({"base_batch_size": 10, "num_shards": 4}, "a multiple of 4 .*, got 10; use 12"),
        ({"budget": "B+", "base_batch_size": 2}, "under 1 image.*set recipe.base_batch_size to at least"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        step_shapes([224], **({"budget": "constant", "base_size": 32, "base_batch_size": 64} | arguments))


def test_the_batch_that_a_refusal_proposes_is_accepted():
    with pytest.raises(UserError) as refused:
        step_shapes([224], budget="B+", base_size=32, base_batch_size=2)
    proposed = int(str(refused.value).rstrip(".").split()[-1])
    assert step_shapes([224], budget="B+", base_size=32, base_batch_size=proposed)[224] == StepShape(1, 1)


def memory_of(capacity):
    """A device that holds so many pixels a step, and the trials it was asked for."""
    trials = []

    def fits(image_size, local_batch_size):
        trials.append(image_size)
        return local_batch_size * image_size**2 <= capacity

    return fits, trials


@given(
    st.sets(st.integers(8, 64), min_size=1, max_size=5),
    st.integers(64**2, 10**6),
    st.integers(1, 4),
    st.integers(80, 10**6),
)
def test_the_batch_that_fits_is_found_at_every_size(sizes, capacity, num_shards, num_images):
    fits, trials = memory_of(capacity)
    batches = fitting_batches(fits, sizes, num_images=num_images, num_shards=num_shards)
    for size, batch in batches.items():
        assert fits(size, batch)
        largest = min(capacity // size**2, num_images // (20 * num_shards))
        assert largest - max(8, largest / 8) <= batch <= largest
        assert batch < 8 or batch % 8 == 0
    assert trials[0] == max(sizes), "the largest size is tried first"


def test_a_table_of_what_fits_becomes_the_steps_of_all_shards():
    assert shapes((16, 32), "memory", 32, 64, num_shards=3, fitting={16: 40, 32: 10}) == {16: (120, 1), 32: (30, 1)}


def test_no_memory_for_one_image_and_too_few_images_are_refused():
    with pytest.raises(UserError, match="one image of 32 px does not fit into memory; choose smaller sizes"):
        fitting_batches(memory_of(100)[0], [8, 32], num_images=1000)
    with pytest.raises(UserError, match="expected at least 40 training images, got 39"):
        fitting_batches(memory_of(10**6)[0], [8], num_images=39, num_shards=2)
