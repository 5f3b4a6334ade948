import io
import struct

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sizemix.data import photos
from sizemix.data.cropping import Crop, cut
from sizemix.data.photos import open_photo, photo_size

_ORIENTATION_TAG = 0x0112


def exif(orientation):
    tags = Image.Exif()
    tags[_ORIENTATION_TAG] = orientation
    return tags


def saved(image, path, **options):
    image.save(path, **options)
    return str(path)


def read(path):
    pixels, denominator, *_ = open_photo(path).pixels(1)
    assert denominator == 1
    return pixels


@pytest.fixture
def fast_decodings(monkeypatch):
    """Counts what goes through simplejpeg."""
    decoded = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *args, **options: decoded.append(options) or decode(*args, **options)
    )
    return decoded


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_a_header_tells_the_upright_size_and_how_to_turn(tmp_path, orientation, extension):
    path = saved(Image.new("RGB", (64, 48)), tmp_path / f"turned.{extension}", exif=exif(orientation))
    photo = open_photo(path)
    upright = (48, 64) if orientation >= 5 else (64, 48)
    assert photo.orientation == orientation
    assert (photo.width, photo.height) == photo_size(tmp_path / f"turned.{extension}") == upright
    assert photo.pixels(1)[0].shape == (48, 64, 3), "as stored"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_photos_of_any_format_stand_upright(tmp_path, orientation, extension):
    file = tmp_path / f"turned.{extension}"
    corner = Image.new("RGB", (64, 48), "black")
    corner.paste("white", (0, 0, 32, 16))
    saved(corner, file, exif=exif(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    photo = open_photo(str(file))
    assert (photo.width, photo.height) == photo_size(file) == upright.shape[1::-1]
    shown = torch.empty(3, 48, 48, dtype=torch.uint8)
    cut(photo, [Crop((0, 0, photo.width, photo.height), False, shown)], 1, interpolation="bilinear")
    expected = np.asarray(Image.fromarray(upright).resize((48, 48), Image.Resampling.BILINEAR))
    assert np.abs(shown.permute(1, 2, 0).numpy().astype(int) - expected).mean() < 2


def test_levels_whose_white_nobody_knows_are_refused_rather_than_shown_black(tmp_path):
    ramp = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    with pytest.raises(ValueError, match="expected levels up to 255 or 65535, got none above 1"):
        read(saved(Image.fromarray(ramp), tmp_path / "ramp.tif"))
    assert read(saved(Image.fromarray(255 * ramp), tmp_path / "bright.tif")).max() == 255


def with_blocks(*blocks):
    """A JPEG with APP1 blocks of one's own."""
    out = io.BytesIO()
    Image.new("RGB", (16, 8)).save(out, "jpeg")
    data = out.getvalue()
    return data[:2] + b"".join(b"\xff\xe1" + (len(one) + 2).to_bytes(2) + one for one in blocks) + data[2:]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    order=st.sampled_from(["<", ">"]),
    orientation=st.integers(0, 10),
    cut=st.integers(0, 40),
    flip=st.none() | st.tuples(st.integers(0, 11) | st.integers(22, 60), st.integers(0, 255)),  # not another tag's type
)
def test_whatever_an_exif_block_holds_both_paths_turn_alike(order, orientation, cut, flip):
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    tiff += struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"abc\0")
    tiff += struct.pack(f"{order}HHIHH", _ORIENTATION_TAG, 3, 1, orientation, 0) + b"\0\0\0\0"
    if flip is not None and flip[0] < len(tiff):
        tiff = tiff[: flip[0]] + bytes([flip[1]]) + tiff[flip[0] + 1 :]
    data = with_blocks(b"Exif\0\0" + tiff[: len(tiff) - cut])
    by_pillow = photos._ByPillow(data)
    fast = photos._jpeg(data)
    if fast is not None:
        assert (fast.orientation, fast.width, fast.height) == (
            by_pillow.orientation,
            by_pillow.width,
            by_pillow.height,
        )


def test_an_orientation_in_xmp_alone_counts_too(tmp_path):
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x><rdf:Description tiff:Orientation="6"/></x>'
    (tmp_path / "xmp.jpg").write_bytes(with_blocks(xmp))
    assert open_photo(str(tmp_path / "xmp.jpg")).orientation == photos._ByPillow(with_blocks(xmp)).orientation


@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (101, 67), (33, 200)])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "progressive", "444"]
)
def test_jpegs_are_decoded_at_the_scale_asked_for_by_either_path(tmp_path, denominator, width, height, options):
    noise = np.random.default_rng(0).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    path = saved(photo, tmp_path / "photo.jpg", **options)
    fast, reached, *_ = open_photo(path).pixels(denominator)
    by_pillow, also_reached, *_ = photos._ByPillow((tmp_path / "photo.jpg").read_bytes()).pixels(denominator)
    assert reached == also_reached == denominator
    assert fast.shape == by_pillow.shape == (-(-height // denominator), -(-width // denominator), 3)
    assert np.abs(fast.astype(int) - by_pillow).max() <= 2


def test_plain_jpegs_take_the_fast_path_and_others_do_not(tmp_path, fast_decodings):
    grey = Image.new("L", (40, 30), 120)
    plain = (
        saved(grey, tmp_path / "grey.jpg"),
        saved(grey.convert("RGB"), tmp_path / "colour.jpeg"),
        saved(grey.convert("RGB"), tmp_path / "progressive.jpg", progressive=True),
        saved(grey.convert("RGB"), tmp_path / "wrong.png", format="jpeg"),
    )
    others = (saved(grey.convert("CMYK"), tmp_path / "cmyk.jpg"), saved(grey, tmp_path / "wrong.jpg", format="png"))
    for number, path in enumerate(plain, start=1):
        assert np.abs(read(path).astype(int) - 120).max() <= 2
        assert len(fast_decodings) == number
    for path in others:
        assert np.abs(read(path).astype(int) - 120).max() <= 2
    assert len(fast_decodings) == len(plain)


def test_what_libjpeg_turbo_does_not_take_pillow_may(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise ValueError("Unsupported marker type 0x00")

    path = saved(Image.new("RGB", (64, 48), (10, 200, 30)), tmp_path / "odd.jpg")
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    pixels, denominator, *_ = open_photo(path).pixels(2)
    assert (pixels.shape, denominator) == ((24, 32, 3), 2)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.new("L", (40, 30), 120)),
        ("sixteen.png", Image.fromarray(np.full((30, 40), 120 * 257, np.uint16))),
        ("palette.png", Image.new("L", (40, 30), 120).convert("P")),
        ("bits.png", Image.new("1", (40, 30), 1)),
        ("grey.jpg", Image.new("L", (40, 30), 120)),
        ("cmyk.jpg", Image.new("RGB", (40, 30), (120, 120, 120)).convert("CMYK")),
        ("still.gif", Image.new("L", (40, 30), 120)),
        ("lossless.webp", Image.new("RGB", (40, 30), (120, 120, 120))),
    ],
)
def test_every_kind_of_pixel_becomes_eight_bit_colour(tmp_path, name, image):
    pixels = read(saved(image, tmp_path / name))
    expected = 255 if name == "bits.png" else 120
    assert pixels.shape == (30, 40, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("name", ["animated.gif", "animated.webp"])
def test_of_an_animation_the_first_picture_is_shown(tmp_path, name):
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ((200, 40, 40), (40, 40, 200)))
    path = saved(first, tmp_path / name, save_all=True, append_images=[second])
    assert np.abs(read(path).astype(int) - (200, 40, 40)).max() <= 5


def test_transparency_is_shown_on_white(tmp_path):
    assert (read(saved(Image.new("RGBA", (40, 30), (10, 20, 30, 0)), tmp_path / "clear.png")) == 255).all()
    assert (read(saved(Image.new("P", (40, 30)), tmp_path / "palette.png", transparency=0)) == 255).all()


@pytest.mark.parametrize("name", ["bomb.png", "bomb.jpg", "bomb.gif"])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, monkeypatch, name):
    path = saved(Image.new("RGB", (200, 200)), tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    with pytest.raises((Image.DecompressionBombWarning, Image.DecompressionBombError)):
        photo_size(tmp_path / name)
    with pytest.raises((Image.DecompressionBombWarning, Image.DecompressionBombError)):
        open_photo(path)
