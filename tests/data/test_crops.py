import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizemix.data.crops import NUM_CROP_DRAWS, RandomResizedCrop, centre_box
from sizemix.errors import UserError


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    seed=st.integers(0, 2**32),
    image_size=st.sampled_from([64, 224, 320]),
)
def test_every_crop_lies_in_the_photo(width, height, seed, image_size):
    crop = RandomResizedCrop(reference_size=224)
    draws = np.random.default_rng(seed).random(NUM_CROP_DRAWS)
    left, top, right, bottom = crop.box(width, height, image_size=image_size, draws=draws)
    assert 0 <= left < right <= width + 1e-9
    assert 0 <= top < bottom <= height + 1e-9


def areas(crop, image_size):
    rng = np.random.default_rng(0)
    boxes = [crop.box(400, 400, image_size=image_size, draws=rng.random(NUM_CROP_DRAWS)) for _ in range(2000)]
    return np.array([(right - left) * (bottom - top) for left, top, right, bottom in boxes]) / 400**2


def test_areas_and_aspect_ratios_fill_their_ranges():
    found = areas(RandomResizedCrop(scale=(0.2, 0.6)), 224)
    assert found.min() == pytest.approx(0.2, abs=0.005)
    assert found.max() == pytest.approx(0.6, abs=0.005)
    assert found.mean() == pytest.approx(0.4, abs=0.01)


def test_with_a_reference_size_the_area_follows_the_image_size():
    crop = RandomResizedCrop(scale=(0.1, 0.4), reference_size=200)
    assert areas(crop, 200).mean() == pytest.approx(0.25, abs=0.01)
    assert areas(crop, 100).mean() == pytest.approx(0.25 / 4, abs=0.01)
    assert areas(crop, 400).max() <= 1
    assert areas(RandomResizedCrop(scale=(0.1, 0.4)), 100).mean() == pytest.approx(0.25, abs=0.01)


def test_a_photo_too_narrow_for_any_crop_shows_its_middle():
    crop = RandomResizedCrop(scale=(1.0, 1.0))
    box = crop.box(900, 90, image_size=64, draws=np.full(NUM_CROP_DRAWS, 0.3))
    assert box == (390, 0, 510, 90)


@pytest.mark.parametrize("scale", [(0, 1), (0.5, 0.2), (0.5, 1.5)])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(UserError, match="crop_scale: expected two parts of the area"):
        RandomResizedCrop(scale=scale)


def test_the_central_square_keeps_the_crop_ratio():
    assert centre_box(400, 200, crop_ratio=0.875) == (112.5, 12.5, 287.5, 187.5)
