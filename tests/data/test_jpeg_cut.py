import io
import shutil
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sizemix.data.jpeg_cut import Tiling, cut_jpeg, interval_starts, tiling

_MCU_WIDTH = {"4:2:0": 16, "4:2:2": 16, "4:4:4": 8, "grey": 8}


def tiled(width, height, *, sampling="4:2:0", widest_tile=4, seed=0, quality=90):
    """A JPEG of strong colours with a restart marker behind every tile."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    across = -(-width // _MCU_WIDTH[sampling])
    interval = next(number for number in range(widest_tile, 0, -1) if across % number == 0)
    options = {"restart_marker_blocks": interval, "quality": quality}
    if sampling == "grey":
        return encoded(image.convert("L"), **options)
    return encoded(image, subsampling=sampling, **options)


def encoded(image, **options):
    out = io.BytesIO()
    image.save(out, "jpeg", **options)
    return out.getvalue()


def decoded(data, denominator=1):
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    least = {"min_width": -(-width // denominator), "min_height": -(-height // denominator)}
    return simplejpeg.decode_jpeg(data, **(least if denominator > 1 else {}))


def cut_to(data, region, denominator=1):
    """The cut that a region needs, and where in the photo it begins."""
    layout = tiling(data)
    tiles = layout.tiles(region, denominator)
    made = cut_jpeg(memoryview(data), layout, interval_starts(data, layout), tiles)
    return bytes(made), layout.pixels(tiles)


@pytest.mark.parametrize("sampling", list(_MCU_WIDTH))
@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(476, 405), (19, 35), (33, 17), (1, 1), (300, 3), (128, 64)])
def test_a_crop_of_the_cut_is_the_same_crop_of_the_whole_bit_for_bit(sampling, denominator, width, height):
    rng = np.random.default_rng([width, denominator])
    data = tiled(width, height, sampling=sampling)
    whole = decoded(data, denominator)
    for _ in range(8):
        left, right = sorted(rng.choice(whole.shape[1] + 1, 2, replace=False).tolist())
        top, bottom = sorted(rng.choice(whole.shape[0] + 1, 2, replace=False).tolist())
        region = (left, top, right, bottom)
        stored = [min(edge * denominator, side) for edge, side in zip(region, (width, height) * 2, strict=True)]
        if stored[0] == stored[2] or stored[1] == stored[3]:
            continue
        made, (x, y, end_x, end_y) = cut_to(data, tuple(stored), denominator)
        pixels = decoded(made, denominator)
        x, y = x // denominator, y // denominator
        assert simplejpeg.decode_jpeg_header(made)[:2] == (end_y - y * denominator, end_x - x * denominator)
        assert np.array_equal(pixels[top - y : bottom - y, left - x : right - x], whole[top:bottom, left:right])


def test_a_small_crop_is_cut_to_a_small_part_of_the_bytes():
    data = tiled(480, 400)
    made, _ = cut_to(data, (200, 200, 296, 296))
    assert len(made) < 0.2 * len(data)
    assert cut_to(data, (0, 0, 480, 400))[0] == data


def test_what_is_left_is_a_jpeg_that_pillow_reads_too():
    data = tiled(200, 150)
    made, (left, top, right, bottom) = cut_to(data, (60, 40, 130, 100))
    with Image.open(io.BytesIO(made)) as image:
        assert image.size == (right - left, bottom - top)
        assert np.array_equal(np.asarray(image.convert("RGB")), decoded(made))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a JPEG"),
        (b"\x89PNG\r\n", "expected a JPEG"),
        (b"\xff\xd8", "expected image data, got none"),
        (b"\xff\xd8\xff\xe0\x00\x01", "expected a whole segment at byte 2"),
        (b"\xff\xd8\x00\x00\x00\x00", "expected a marker at byte 2"),
        (encoded(Image.new("RGB", (40, 30))), "expected a frame header and a restart interval before"),
        (encoded(Image.new("RGB", (40, 30)), progressive=True), "expected a baseline JPEG, got one of kind 0xc2"),
        (encoded(Image.new("RGB", (200, 30)), restart_marker_blocks=5), "whole tiles in every row"),
    ],
)
def test_what_has_no_tiles_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        tiling(data)


def test_other_markers_than_there_should_be_are_refused():
    data = tiled(100, 80)
    layout = tiling(data)
    for altered in (data[:-20], data + b"\0", data[:-2] + b"\0\0", data.replace(b"\xff\xd1", b"\xff\xd2", 1)):
        with pytest.raises(ValueError, match="tiles, each with its marker"):
            interval_starts(altered, layout)


_DATA = tiled(100, 80, seed=1)
_LAYOUT = tiling(_DATA)
_STARTS = interval_starts(_DATA, _LAYOUT)


@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes_never_crash_the_reading_of_a_header(data, begun):
    only_value_errors(b"\xff\xd8" + data if begun else data)


@settings(max_examples=300)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(_DATA) - 1), st.integers(0, 255)), max_size=6),
    end=st.none() | st.integers(0, len(_DATA)),
)
def test_mutated_jpegs_never_crash_the_cutter(changes, end):
    data = bytearray(_DATA)
    for at, value in changes:
        data[at] = value
    only_value_errors(bytes(data[:end]))


def only_value_errors(data):
    try:
        layout = tiling(data)
        starts = interval_starts(data, layout)
        made = cut_jpeg(memoryview(data), layout, starts, layout.tiles((0, 0, 1, 1), 1))
        simplejpeg.decode_jpeg(made)
    except ValueError:
        pass


_SIDES = st.integers(-1, 70_000)


@settings(max_examples=300)
@given(
    sides=st.tuples(_SIDES, _SIDES),
    mcu=st.tuples(st.integers(-1, 40), st.integers(-1, 40)),
    numbers=st.tuples(st.integers(-1, 99), st.integers(-9, 800), st.integers(-9, 800)),
    starts=st.lists(st.integers(-(2**40), 2**40), max_size=40),
    tiles=st.tuples(*[st.integers(-2, 12)] * 4),
)
def test_whatever_an_index_says_of_a_jpeg_the_cutter_never_crashes(sides, mcu, numbers, starts, tiles):
    for layout_of, places in ((lambda: Tiling(*sides, *mcu, *numbers), starts), (lambda: _LAYOUT, starts)):
        try:
            layout = layout_of()
            padded = np.resize(np.array(places or [0]), min(layout.rows * layout.columns + 1, 5000))
            cut_jpeg(memoryview(_DATA), layout, padded, tiles)
        except ValueError:
            pass


@given(at=st.integers(0, len(_STARTS) - 1), moved=st.integers(-3000, 3000), tiles=st.tuples(*[st.integers(0, 7)] * 4))
def test_tiles_that_begin_elsewhere_are_noticed_or_harmless(at, moved, tiles):
    starts = _STARTS.copy()
    starts[at] += moved
    try:
        made = cut_jpeg(memoryview(_DATA), _LAYOUT, starts, tiles)
        simplejpeg.decode_jpeg(made)
    except ValueError:
        pass


def test_the_sides_in_the_header_are_the_cut_s():
    made, (left, top, right, bottom) = cut_to(_DATA, (40, 40, 60, 60))
    assert struct.unpack_from(">HH", made, _LAYOUT.size_at) == (bottom - top, right - left)


@pytest.mark.skipif(shutil.which("jpegtran") is None, reason="jpegtran is not installed")
def test_jpegtran_makes_tiles(tmp_path):
    import subprocess

    (tmp_path / "photo.jpg").write_bytes(encoded(Image.new("RGB", (96, 50)), progressive=True))
    command = ["jpegtran", "-copy", "none", "-restart", "2B", str(tmp_path / "photo.jpg")]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert (tiling(data).columns, tiling(data).rows) == (3, 4)
