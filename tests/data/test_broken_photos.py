"""Files as they should not be: each is shown, or named and replaced; nothing crashes, hangs or turns black."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from sizemix.data.appearance import Appearance
from sizemix.data.folder import folder
from sizemix.data.photos import open_photo, photo_size
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest

_RED, _GREEN = (190, 60, 50), (50, 160, 70)
_SAMPLE = "0_sample.jpg"


def encoded(kind="jpeg", *, width=200, height=150, mode="RGB", **options):
    """An image that is red above a grain that compresses badly."""
    grain = np.random.default_rng(0).integers(-40, 40, (height, width, 1))
    pixels = (np.array(_RED) + grain).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def shown(tmp_path):
    """Puts a file first in a folder, and shows it: its image at 64 px, and the files that were replaced or left out."""
    for name, colour in (("red", _RED), ("green", _GREEN)):
        (tmp_path / name).mkdir()
        for number in range(1, 4):
            Image.new("RGB", (60, 60), colour).save(tmp_path / name / f"{number}.png")
    place = tmp_path / "red" / _SAMPLE

    def show(data=None, *, after_the_check=False):
        if data is not None:
            place.write_bytes(encoded() if after_the_check else data)
        dataset = folder(root=str(tmp_path), val_fraction=0.01, test_fraction=0.01, split_seed=1)
        if dataset.broken:
            return None, set(dataset.broken)
        split = next(split for split in (dataset.train, dataset.val, dataset.test) if f"red/{_SAMPLE}" in split.paths)
        if after_the_check and data is not None:
            place.write_bytes(data)
        batches = split.batches(appearance=Appearance(), flip=True, preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3))
        index = np.array([split.paths.index(f"red/{_SAMPLE}")])
        evaluated = batches.eval(EvalRequest(index, 64))
        trained = batches.train(TrainRequest(index, np.array([0]), 64, 2, 0, item=0))
        assert set(evaluated.unreadable) == set(trained.unreadable)
        alike = (trained.images.float().mean((2, 3)) - evaluated.images.float().mean((2, 3))).abs()
        assert alike.max() < 100, "both show the same photo"
        return evaluated.images[0], set(evaluated.unreadable)

    return show


def looks_red(image):
    means = image.float().mean((1, 2)).tolist()
    return all(abs(mean - level) < 25 for mean, level in zip(means, _RED, strict=True))


def test_a_whole_file_is_shown(shown):
    image, named = shown(encoded())
    assert looks_red(image)
    assert not named


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
@pytest.mark.parametrize("part", [0, 0.001, 0.01, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_named_when_it_is_checked_or_when_it_is_read(shown, kind, part):
    whole = encoded(kind)
    image, named = shown(whole[: int(part * len(whole))])
    if kind in ("png", "webp", "gif") and part == 0.999 and not named:
        assert looks_red(image), "only what stands behind the last pixel is missing"
    else:
        assert named == {f"red/{_SAMPLE}"}
        assert image is None or looks_red(image), "another of its class"


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_that_is_cut_at_any_place_is_never_shown(tmp_path, options):
    whole = encoded(**options)
    path = tmp_path / "cut.jpg"
    for end in (*range(0, 700, 23), *range(700, len(whole), 1501), *range(len(whole) - 6, len(whole))):
        path.write_bytes(whole[:end])
        with pytest.raises(Exception, match=r".") as refused:
            open_photo(str(path)).pixels(1)
        assert isinstance(refused.value, (ValueError, OSError, SyntaxError))


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_in_a_jpeg_is_noticed_or_does_little(tmp_path, seed):
    """What no checksum covers can change: a table, or a coefficient that the next ones build upon."""
    data = bytearray(encoded())
    rng = np.random.default_rng(seed)
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    (tmp_path / "flipped.jpg").write_bytes(data)
    try:
        pixels = open_photo(str(tmp_path / "flipped.jpg")).pixels(1).pixels
    except (ValueError, OSError, SyntaxError):
        return
    assert pixels.shape[2] == 3
    assert pixels.max() > 60, "not black"
    assert pixels.std() > 5, "not of one colour"


def test_damage_that_pillow_overlooks_is_noticed(tmp_path):
    """Bytes between the last pixel and the end say that the pixels before were too few, as after a flipped bit."""
    data = bytearray(encoded())
    middle = len(data) // 2
    refused = 0
    for at in range(middle, middle + 40):
        altered = data.copy()
        altered[at] ^= 0x10
        (tmp_path / "altered.jpg").write_bytes(altered)
        try:
            open_photo(str(tmp_path / "altered.jpg")).pixels(1)
        except (ValueError, OSError):
            with contextlib.suppress(OSError):
                Image.open(io.BytesIO(altered)).load()
                refused += 1
    assert refused >= 10


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("webp", {}),
        ("gif", {}),
        ("tiff", {}),
        ("jpeg", {"mode": "CMYK"}),
        ("jpeg", {"progressive": True}),
        ("png", {"mode": "P"}),
    ],
)
def test_the_extension_does_not_matter(shown, kind, options):
    image, named = shown(encoded(kind, **options))
    assert looks_red(image)
    assert not named


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (20_000, 3)])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_strange_shapes_are_shown(shown, kind, width, height):
    image, named = shown(encoded(kind, width=width, height=height))
    assert image.float().std((1, 2)).max() < 60
    assert abs(image[0].float().mean() - _RED[0]) < 45, "one pixel may be all grain"
    assert not named


def test_a_palette_with_transparency_is_shown_on_white(shown):
    out = io.BytesIO()
    palette = Image.new("P", (50, 40), 1)
    palette.putpalette([0, 0, 0, *_RED])
    palette.paste(0, (0, 0, 25, 40))
    palette.save(out, "png", transparency=0)
    image, named = shown(out.getvalue())
    assert (image[:, :, :28] == 255).all()
    assert image[:, :, -28:].float().mean((1, 2)).tolist() == pytest.approx(_RED, abs=2)
    assert not named


def test_sixteen_bits_become_eight(shown):
    out = io.BytesIO()
    Image.fromarray(np.full((40, 50), 190 * 257, np.uint16)).save(out, "png")
    image, _ = shown(out.getvalue())
    assert (image == 190).all()


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_shows_its_first_picture(shown, kind):
    out = io.BytesIO()
    first, second = (Image.new("RGB", (50, 40), colour) for colour in (_RED, _GREEN))
    first.save(out, kind, save_all=True, append_images=[second])
    image, named = shown(out.getvalue())
    assert looks_red(image)
    assert not named


@pytest.mark.parametrize("after_the_check", [False, True])
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xd8\xff", b"no image at all" * 50, encoded()[:300] + b"\0" * 5000])
def test_what_is_no_image_is_named(shown, data, after_the_check):
    image, named = shown(data, after_the_check=after_the_check)
    assert named == {f"red/{_SAMPLE}"}
    assert image is None or looks_red(image), "another of its class"


def test_a_link_to_itself_or_to_nothing_is_named(shown, tmp_path):
    place = tmp_path / "red" / _SAMPLE
    for target in (_SAMPLE, "nowhere.jpg"):
        place.symlink_to(target)
        assert shown() == (None, {f"red/{_SAMPLE}"})
        place.unlink()


def test_a_folder_that_leads_back_to_itself_is_no_endless_way(shown, tmp_path):
    (tmp_path / "red" / "again").symlink_to(tmp_path / "red", target_is_directory=True)
    image, named = shown(encoded())
    assert looks_red(image)
    assert not named


@pytest.mark.parametrize("after_the_check", [False, True])
def test_a_file_that_may_not_be_read_is_named(shown, tmp_path, monkeypatch, after_the_check):
    """Root may read all, so the refusal is staged."""
    place = str(tmp_path / "red" / _SAMPLE)
    really_open = open
    forbidden = []

    def guarded(file, *args, **options):
        if isinstance(file, (str, Path)) and os.fspath(file) == place and (args and "r" in args[0]) and forbidden:
            raise PermissionError(13, "Permission denied", place)
        return really_open(file, *args, **options)

    monkeypatch.setattr("builtins.open", guarded)
    if not after_the_check:
        forbidden.append(True)
        Path(place).write_bytes(encoded())
        image, named = shown()
        assert image is None
    else:
        check = folder

        def checked(**options):
            found = check(**options)
            forbidden.append(True)
            return found

        monkeypatch.setitem(globals(), "folder", checked)
        image, named = shown(encoded())
        assert looks_red(image), "another of its class"
    assert named == {f"red/{_SAMPLE}"}


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp"])
def test_a_decompression_bomb_is_named(shown, monkeypatch, kind):
    bomb = encoded(kind, width=400, height=300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    assert shown(bomb) == (None, {f"red/{_SAMPLE}"})
    image, named = shown(bomb, after_the_check=True)
    assert looks_red(image), "another of its class"
    assert named == {f"red/{_SAMPLE}"}


def test_a_real_bomb_takes_no_memory(tmp_path):
    """60,000 x 60,000 grey pixels, by a header alone: 10 GB in colours."""
    import psutil

    small = bytearray(encoded(width=16, height=16))
    frame = small.index(b"\xff\xc0")
    small[frame + 5 : frame + 9] = (60_000).to_bytes(2) * 2
    (tmp_path / "bomb.jpg").write_bytes(small)
    before = psutil.Process().memory_info().rss
    with pytest.raises(Image.DecompressionBombError, match="60000"):
        open_photo(str(tmp_path / "bomb.jpg"))
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_postscript_under_another_name_starts_no_other_program(tmp_path):
    """Pillow would hand it to Ghostscript, which carries out what it says."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with Image.open(path) as image:
        assert image.format == "EPS", "which Pillow knows"
    with pytest.raises(UnidentifiedImageError):
        open_photo(str(path))
    with pytest.raises(UnidentifiedImageError):
        photo_size(path)
