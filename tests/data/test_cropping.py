from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sizemix.data import photos
from sizemix.data.cropping import GAP, Crop, cut, denominator, grid_box
from sizemix.data.crops import NUM_CROP_DRAWS, RandomResizedCrop
from sizemix.data.photos import open_photo

_TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Stored:
    """A photo's header."""

    def __init__(self, width, height, orientation=1):
        self.width, self.height, self.orientation = width, height, orientation


def crop(box, image_size=32, *, mirrored=False):
    return Crop(box, mirrored, torch.empty((image_size, image_size, 3), dtype=torch.uint8).permute(2, 0, 1))


def cropped(photo, box, image_size=32, *, gap=GAP, mirrored=False, interpolation="bilinear"):
    wanted = crop(box, image_size, mirrored=mirrored)
    cut(photo, [wanted], denominator([box], image_size=image_size, gap=gap), interpolation=interpolation)
    return channels_last(wanted)


def channels_last(filled):
    return filled.pixels.permute(1, 2, 0).numpy()


def photo_like(width, height, seed=0):
    """Texture whose power falls with the square of the frequency, and colours that vary less, as in photos."""
    rng = np.random.default_rng(seed)

    def texture(power):
        frequency = np.hypot(np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None])
        frequency[0, 0] = np.inf
        field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-power, s=(height, width))
        return field / field.std()

    light, red, blue = 128 + 40 * texture(1.2), 16 * texture(1.4), 16 * texture(1.4)
    pixels = np.stack([light + red, light - 0.4 * (red + blue), light + blue], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def saved(image, path, **options):
    image.save(path, **options)
    return str(path)


@given(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    orientation=st.integers(1, 8),
    image_size=st.integers(1, 320),
    seed=st.integers(0, 2**32),
)
def test_a_crop_on_the_grid_is_never_empty_stays_in_the_photo_and_changes_by_a_pixel_of_the_result_at_most(
    width, height, orientation, image_size, seed
):
    photo = Stored(width, height, orientation)
    draws = np.random.default_rng(seed).random(NUM_CROP_DRAWS)
    box = RandomResizedCrop().box(width, height, image_size=image_size, draws=draws)
    coarse = denominator([box], image_size=image_size, gap=GAP)
    left, top, right, bottom = grid_box(photo, box, coarse)
    stored_width, stored_height = (height, width) if orientation >= 5 else (width, height)
    assert 0 <= left < right <= stored_width // coarse
    assert 0 <= top < bottom <= stored_height // coarse
    if coarse > 1:
        across, down = box[2] - box[0], box[3] - box[1]
        across, down = (down, across) if orientation >= 5 else (across, down)
        # Half a step by rounding; or up to a step where the photo ends within one.
        assert abs((right - left) * coarse - across) <= 1.5 * coarse <= across / image_size + 1e-9
        assert abs((bottom - top) * coarse - down) <= 1.5 * coarse <= down / image_size + 1e-9


@pytest.mark.parametrize(
    ("side", "image_size", "expected"),
    [(95, 32, 1), (96, 32, 2), (192, 32, 4), (384, 32, 8), (800, 32, 8), (95, 64, 1)],
)
def test_the_scale_keeps_the_gap(side, image_size, expected):
    assert denominator([(0, 0, side, side + 50)], image_size=image_size, gap=1.5) == expected


def test_the_smallest_crop_decides_for_all():
    wide, narrow = (0, 0, 800, 800), (0, 0, 120, 800)
    assert [denominator(boxes, image_size=32, gap=1.5) for boxes in ([wide], [wide, narrow])] == [8, 2]


def test_a_crop_is_what_torch_makes_of_the_whole_photo(tmp_path):
    """Of pixels decoded in full, on whole pixels, for a box that hardly needs to be moved."""
    image = photo_like(200, 150)
    found = cropped(open_photo(saved(image, tmp_path / "photo.png")), (9.8, 20.2, 130.4, 119.7), 48, gap=9)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(image.crop((10, 20, 130, 120)))).permute(2, 0, 1)[None],
        (48, 48),
        mode="bilinear",
        antialias=True,
    )
    assert np.array_equal(found, exact[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_crops_are_upright_however_the_photo_is_stored(tmp_path, orientation, extension, mirrored):
    """Neither side is a multiple of the scale, nor is the box."""
    upright = photo_like(331, 245)
    stored = upright.transpose(_TURNS_BACK[orientation]) if orientation > 1 else upright
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = saved(stored, tmp_path / f"turned.{extension}", exif=tags, **({"quality": 98} if extension == "jpg" else {}))
    box = (100.5, 33.25, 330.5, 240.0)
    found = cropped(open_photo(path), box, 32, mirrored=mirrored)
    expected = np.asarray(upright.resize((32, 32), Image.Resampling.BILINEAR, box=box)).astype(int)
    difference = np.abs(found - (expected[:, ::-1] if mirrored else expected))
    assert difference.mean() < 4, "other boxes and turns are 20 and more away"


def psnr(square_errors):
    return 10 * np.log10(255**2 / max(np.mean(square_errors), 1e-9))


@pytest.fixture
def real_photo():
    """Of Grace Hopper, by the US Navy, which Matplotlib brings along: 512 x 600 px, 4:2:0."""
    return str(resources.files("matplotlib") / "mpl-data" / "sample_data" / "grace_hopper.jpg")


@pytest.mark.parametrize("image_size", [64, 96, 128, 224])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_random_crops_are_on_average_50_db_from_those_of_the_full_decoding(
    tmp_path, real_photo, image_size, interpolation
):
    """At the same edges; a crop that is equal counts as the rounding of its pixels."""
    paths = [real_photo, *(saved(photo_like(476, 405, at), tmp_path / f"{at}.jpg", quality=93) for at in range(3))]
    errors = square_errors(paths, image_size, interpolation, gap=GAP)
    assert np.mean([psnr(max(error, 1 / 12)) for error in errors]) >= 50


def test_those_decoded_at_less_than_full_size_come_near_it_and_a_wider_gap_reaches_it(tmp_path, real_photo):
    paths = [real_photo, *(saved(photo_like(476, 405, at), tmp_path / f"{at}.jpg", quality=93) for at in range(3))]
    near, nearer = (square_errors(paths, 64, "bilinear", gap=gap) for gap in (GAP, 2))
    assert psnr(near[near > 0]) >= 45
    assert psnr(nearer[nearer > 0]) >= 50


def square_errors(paths, image_size, interpolation, *, gap):
    """Mean square error of each of some crops, in grey levels: 0 where the photo is decoded in full."""
    errors = []
    for number, path in enumerate(paths):
        draws = np.random.default_rng(number).random((25, NUM_CROP_DRAWS))
        photo = open_photo(path)
        for row in draws:
            box = RandomResizedCrop().box(photo.width, photo.height, image_size=image_size, draws=row)
            fast = cropped(photo, box, image_size, gap=gap, interpolation=interpolation)
            full = cropped(DecodedInFull(photo), box, image_size, gap=gap, interpolation=interpolation)
            errors.append(np.mean((fast.astype(float) - full) ** 2))
    return np.array(errors)


class DecodedInFull:
    """A photo of a format that has no smaller scales."""

    def __init__(self, photo):
        self.width, self.height, self.orientation = photo.width, photo.height, photo.orientation
        self._photo = photo

    def pixels(self, denominator, region=None):
        return self._photo.pixels(1)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("image_size", [32, 100])
def test_both_paths_show_the_same(tmp_path, subsampling, image_size):
    path = tmp_path / "photo.jpg"
    saved(photo_like(401, 307), path, quality=90, subsampling=subsampling)
    box = (40.2, 10.7, 391.1, 300.3)
    fast = cropped(open_photo(str(path)), box, image_size)
    by_pillow = cropped(photos._ByPillow(path.read_bytes()), box, image_size)
    assert psnr((fast.astype(float) - by_pillow) ** 2) >= 50


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (3, 500), (20_000, 3)])
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_the_oddest_photos_have_crops(tmp_path, width, height, extension):
    path = saved(Image.new("RGB", (width, height), (90, 140, 190)), tmp_path / f"odd.{extension}")
    photo = open_photo(path)
    for seed in range(5):
        draws = np.random.default_rng(seed).random(NUM_CROP_DRAWS)
        box = RandomResizedCrop().box(width, height, image_size=64, draws=draws)
        assert np.abs(cropped(photo, box, 64).astype(int) - (90, 140, 190)).max() <= 3
