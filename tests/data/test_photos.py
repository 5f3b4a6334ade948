import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sizemix.data.photos import NUM_CROP_DRAWS, RandomResizedCrop, centre_box, photo_size, read_crops
from sizemix.errors import UserError

_ORIENTATION_TAG = 0x0112


def ramp(width, height):
    """Every pixel tells where it is."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.zeros_like(across)], -1).astype(np.uint8))


def whole(width, height):
    return [(0, 0, width, height)]


def read(path, choose=whole, image_size=32):
    return read_crops(path, choose, image_size=image_size, interpolation="bilinear")


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_read_upright(tmp_path, orientation):
    upright = ramp(64, 48)
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    assert photo_size(tmp_path / "turned.png") == (64, 48)
    (turned,), (expected,) = read(tmp_path / "turned.png"), read(tmp_path / "upright.png")
    assert np.array_equal(turned, expected)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.new("L", (40, 30), 120)),
        ("sixteen.png", Image.fromarray(np.full((30, 40), 120 * 257, np.uint16))),
        ("palette.png", Image.new("L", (40, 30), 120).convert("P")),
        ("bits.png", Image.new("1", (40, 30), 1)),
        ("cmyk.jpg", Image.new("RGB", (40, 30), (120, 120, 120)).convert("CMYK")),
        ("animated.gif", Image.new("L", (40, 30), 120)),
    ],
)
def test_every_kind_of_pixel_becomes_eight_bit_colour(tmp_path, name, image):
    image.save(tmp_path / name)
    (pixels,) = read(tmp_path / name)
    expected = 255 if name == "bits.png" else 120
    assert pixels.shape == (32, 32, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_transparency_is_shown_on_white(tmp_path):
    Image.new("RGBA", (40, 30), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert (read(tmp_path / "clear.png")[0] == 255).all()
    Image.new("P", (40, 30)).save(tmp_path / "palette.png", transparency=0)
    assert (read(tmp_path / "palette.png")[0] == 255).all()


def test_crops_of_one_decoding_are_those_of_the_whole_photo(tmp_path):
    """A JPEG is decoded at a fraction of its size where the crops allow it; that must not shift them."""
    photo = ramp(800, 600)
    photo.save(tmp_path / "photo.jpg", quality=95, subsampling=0)
    boxes = [(100.5, 50.25, 700.5, 550.25), (0, 0, 400, 400)]
    crops = read(tmp_path / "photo.jpg", lambda *_: boxes, image_size=32)
    for crop, box in zip(crops, boxes, strict=True):
        exact = np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR, box=box))
        assert np.abs(crop.astype(int) - exact).mean() < 1.5


def test_a_decompression_bomb_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    ramp(200, 200).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    with pytest.raises(Image.DecompressionBombWarning):
        photo_size(tmp_path / "bomb.png")
