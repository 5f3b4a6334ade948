"""Packs: what goes in comes out, small crops too; and what is not whole is refused, by file and offset."""

import contextlib
import csv
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sizemix.cli import pack as command
from sizemix.data import pack_files
from sizemix.data.appearance import Appearance
from sizemix.data.cropping import Crop, cut, denominator
from sizemix.data.crops import NUM_CROP_DRAWS, RandomResizedCrop
from sizemix.data.folder import folder
from sizemix.data.pack import PACK_GAP, PackedPhotos, Shards, faults, pack
from sizemix.data.pack_format import INDEX_FILE, PHOTO, read_index, shard_name
from sizemix.data.pack_writer import write_pack
from sizemix.data.photos import open_photo
from sizemix.data.prefetch import prefetched
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, TrainRequest
from sizemix.data.splits import write_split
from sizemix.errors import DiskFullError, UserError

_JPEGTRAN = shutil.which("jpegtran")
_HALF = (0.5, 0.5, 0.5)


def photo_like(width, height, seed):
    """Texture whose power falls with the frequency, in colours that vary less, as in photos."""
    rng = np.random.default_rng(seed)

    def texture(power):
        frequency = np.hypot(np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None])
        frequency[0, 0] = np.inf
        field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-power, s=(height, width))
        return field / field.std()

    light, red, blue = 128 + 40 * texture(1.2), 16 * texture(1.4), 16 * texture(1.4)
    pixels = np.stack([light + red, light - 0.4 * (red + blue), light + blue], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def packed(source, destination, *, jpegtran=_JPEGTRAN, **options):
    settings = {"quality": 95, "val_dir": "val", "test_dir": "test", "allow_broken": False, "num_threads": 2}
    return write_pack(source, destination, jpegtran=jpegtran, **{**settings, **options})


def bytes_in(place):
    return {file.name: file.read_bytes() for file in place.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes of eight photos: all of a JPEG's kinds, turned ones, and other formats; two shards when packed."""
    root = tmp_path_factory.mktemp("source") / "photos"
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "plain.jpg": {"quality": 93},
        "full.jpg": {"quality": 90, "subsampling": 0},
        "half.jpg": {"quality": 90, "subsampling": 1},
        "progressive.jpg": {"quality": 90, "progressive": True},
        "turned.jpg": {"quality": 93, "exif": turned},
        "lossless.png": {},
        "turned.png": {"exif": turned},
    }
    for label, name in enumerate(("animal", "plant")):
        (root / name).mkdir(parents=True)
        for number, (file, options) in enumerate(kinds.items()):
            photo_like(331 + 40 * number, 245 + 25 * number, 10 * label + number).save(root / name / file, **options)
        photo_like(300, 200, label).convert("L").save(root / name / "grey.jpg", quality=90)
    return root


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The pack of the source."""
    place = tmp_path_factory.mktemp("packed") / "pack"
    packed(source, place, shard_bytes=1_000_000)
    return place


@pytest.fixture
def copied(whole, tmp_path):
    """A pack that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "pack"))


def photos_of(place):
    return PackedPhotos(read_index(place), Shards(place))


def batches_of(dataset, split="train"):
    preprocessing = Preprocessing(_HALF, _HALF)
    return getattr(dataset, split).batches(appearance=Appearance(), flip=True, preprocessing=preprocessing)


def request(indices, image_size, *, num_repeats=1, item=0):
    indices = np.array(indices)
    return TrainRequest(indices, np.full_like(indices, item), image_size, num_repeats, 0, item)


def psnr(found, expected):
    return 10 * np.log10(255**2 / max(((found.float() - expected.float()) ** 2).mean().item(), 1e-9))


@pytest.mark.skipif(_JPEGTRAN is None, reason="jpegtran is not installed")
def test_jpegs_keep_their_very_pixels(source, whole):
    photos = photos_of(whole)
    assert len(photos) == 16
    assert len(list(whole.glob("photos-*.bin"))) > 1
    for number, path in enumerate(photos.paths):
        original, stored = open_photo(str(source / path)), photos.open(number)
        assert (stored.width, stored.height, stored.orientation) == (
            original.width,
            original.height,
            original.orientation,
        )
        assert photos.size(number) == (original.width, original.height)
        pixels, expected = stored.pixels(1).pixels, original.pixels(1).pixels
        if path.endswith(".jpg"):
            assert photos.index.photos["lossless"][number]
            assert np.array_equal(pixels, expected)
        else:
            assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_without_jpegtran_photos_are_encoded_and_near(source, tmp_path):
    result = packed(source, tmp_path / "pack", jpegtran=None)
    assert (result.photos, result.lossless) == (16, 0)
    photos = photos_of(tmp_path / "pack")
    for number, path in enumerate(photos.paths):
        expected = open_photo(str(source / path)).pixels(1).pixels
        assert psnr(torch.tensor(photos.open(number).pixels(1).pixels), torch.tensor(expected)) > 36
    small = packed(source, tmp_path / "smaller", jpegtran=None, quality=60)
    assert small.bytes < 0.5 * result.bytes


@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
def test_a_part_of_a_photo_is_the_same_part_of_the_whole(whole, denominator):
    photos = photos_of(whole)
    rng = np.random.default_rng(denominator)
    for number in range(len(photos)):
        photo = photos.open(number)
        full = photo.pixels(denominator)
        height, width, _ = full.pixels.shape
        for _ in range(4):
            left, right = sorted(rng.choice(width, 2, replace=False).tolist())
            top, bottom = sorted(rng.choice(height, 2, replace=False).tolist())
            part = photo.pixels(denominator, (left, top, right, bottom))
            assert part.denominator == denominator
            rows = slice(top - part.top, bottom - part.top)
            columns = slice(left - part.left, right - part.left)
            assert np.array_equal(part.pixels[rows, columns], full.pixels[top:bottom, left:right])


def test_classes_and_drawn_splits_are_those_of_the_folder(source, whole, tmp_path):
    of_folder, of_pack = folder(root=str(source)), pack(root=str(whole))
    assert of_pack.class_names == of_folder.class_names
    assert of_pack.name == "photos"
    assert of_pack.files == of_folder.files
    assert of_pack.fingerprint != of_folder.fingerprint
    for split in ("train", "val", "test"):
        assert getattr(of_pack, split).paths == getattr(of_folder, split).paths
        assert torch.equal(getattr(of_pack, split).targets, getattr(of_folder, split).targets)
    write_split(folder(root=str(source), split_seed=5).files, tmp_path / "split.csv")
    assert (
        pack(root=str(whole), split_file=str(tmp_path / "split.csv")).files == pack(root=str(whole), split_seed=5).files
    )
    assert len(pack(root=str(whole), train_images=4).train.targets) == 4


def test_given_splits_are_kept(source, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(source, tmp_path / "parts" / part)
    packed(tmp_path / "parts", tmp_path / "pack", val_dir=None, test_dir="val")
    dataset = pack(root=str(tmp_path / "pack"))
    assert all(path.startswith("val/") for path in dataset.test.paths)
    assert len(dataset.test.paths) == 16
    assert len(dataset.val.paths) == 2, "held out from train"


def test_a_split_of_other_files_is_refused(whole, tmp_path):
    rows = "".join(f"{split}/x.jpg,{name},{split}\n" for split in ("train", "val", "test") for name in ("a", "b"))
    (tmp_path / "split.csv").write_text("path,class,split\n" + rows)
    with pytest.raises(UserError, match=r"expected files that are in the pack .*, got train/x.jpg"):
        pack(root=str(whole), split_file=str(tmp_path / "split.csv"))


@pytest.mark.skipif(_JPEGTRAN is None, reason="jpegtran is not installed")
@pytest.mark.parametrize(("image_size", "least"), [(32, 42), (64, 42), (128, 44), (224, 44)])
def test_batches_are_those_of_the_folder(source, whole, image_size, least):
    """Lanczos of the full photo in one, the decoder's own scaling in the other, where less than all is decoded."""
    datasets = (one(root=str(root), decode_gap=1.5) for one, root in ((folder, source), (pack, whole)))
    of_folder, of_pack = map(batches_of, datasets)
    asked = request(range(of_folder.num_images), image_size, num_repeats=3)
    expected, found = of_folder.train(asked), of_pack.train(asked)
    assert torch.equal(found.targets, expected.targets)
    assert psnr(found.images, expected.images) >= least
    shown = EvalRequest(np.arange(of_folder.num_images), image_size)
    assert psnr(of_pack.eval(shown).images, of_folder.eval(shown).images) >= least


@pytest.mark.skipif(_JPEGTRAN is None, reason="jpegtran is not installed")
def test_where_all_is_decoded_batches_are_equal_bit_for_bit(source, whole):
    datasets = [one(root=str(root), decode_gap=99) for one, root in ((folder, source), (pack, whole))]
    rows = [number for number, path in enumerate(datasets[0].train.paths) if path.endswith(".jpg")]
    expected, found = (batches_of(dataset).train(request(rows, 96, num_repeats=2)) for dataset in datasets)
    assert torch.equal(found.images, expected.images)


@pytest.mark.skipif(_JPEGTRAN is None, reason="jpegtran is not installed")
@pytest.mark.parametrize("image_size", [64, 96, 128])
def test_random_crops_are_on_average_50_db_from_those_of_the_full_decoding(whole, image_size):
    """At the same edges; a crop that is equal counts as the rounding of its pixels."""
    photos = photos_of(whole)
    decibels = []
    for number, path in enumerate(photos.paths):
        photo = photos.open(number)
        if path.endswith("plain.jpg") or path.endswith("turned.jpg"):
            for draws in np.random.default_rng(number).random((40, NUM_CROP_DRAWS)):
                box = RandomResizedCrop().box(photo.width, photo.height, image_size=image_size, draws=draws)
                coarse = denominator([box], image_size=image_size, gap=PACK_GAP)
                found, expected = (cropped(one, box, image_size, coarse) for one in (photo, DecodedInFull(photo)))
                error = ((found - expected) ** 2).mean().item()
                decibels.append(10 * np.log10(255**2 / max(error, 1 / 12)))
    assert np.mean(decibels) >= 50


def cropped(photo, box, image_size, coarse):
    crop = Crop(box, False, torch.empty((image_size, image_size, 3), dtype=torch.uint8).permute(2, 0, 1))
    cut(photo, [crop], coarse, interpolation="bilinear")
    return crop.pixels.float()


class DecodedInFull:
    def __init__(self, photo):
        self.width, self.height, self.orientation = photo.width, photo.height, photo.orientation
        self._photo = photo

    def pixels(self, denominator, region=None):
        return self._photo.pixels(1)


def test_threads_make_the_batches_that_one_makes(whole):
    batches = batches_of(pack(root=str(whole)))
    requests = [request([at % 12, (at + 5) % 12], (32, 64, 128)[at % 3], item=at) for at in range(12)]
    expected = [batch.images for batch in prefetched(requests, batches.train, num_threads=0)]
    made = [batch.images for batch in prefetched(requests, batches.train, num_threads=2)]
    assert all(torch.equal(one, other) for one, other in zip(expected, made, strict=True))


def test_several_threads_write_the_bytes_that_one_writes(source, whole, tmp_path):
    packed(source, tmp_path / "pack", shard_bytes=1_000_000, num_threads=1)
    assert bytes_in(tmp_path / "pack") == bytes_in(whole)


_SLOWLY = """
import sys, time
from pathlib import Path
from sizemix.data import pack_files, pack_writer
pack_files._SECONDS_BETWEEN_ENTRIES = 0.0
encode = pack_writer.encode_photo
def slow(*args, **options):
    time.sleep(0.2)
    return encode(*args, **options)
pack_writer.encode_photo = slow
pack_writer.write_pack(Path(sys.argv[1]), Path(sys.argv[2]), quality=95, jpegtran=sys.argv[3] or None, val_dir="val",
    test_dir="test", allow_broken=False, num_threads=2, shard_bytes=1_000_000)
"""


def test_a_killed_writer_goes_on_to_the_same_bytes_and_no_other_writes_meanwhile(source, whole, tmp_path):
    place = tmp_path / "pack"
    arguments = [sys.executable, "-c", _SLOWLY, str(source), str(place), _JPEGTRAN or ""]
    refused = pytest.raises(UserError, match="another process is packing into it")
    with killed_after(9, arguments, place), refused:
        packed(source, place, shard_bytes=1_000_000)
    with pytest.raises(UserError, match="expected a pack"):
        pack(root=str(place))
    with (place / "packing.journal").open("ab") as journal:
        journal.write(b'{"photo": "00')
    with max(place.glob("photos-*.bin")).open("ab") as shard:
        shard.write(b"half of a photo")
    begun = len((place / "packing.journal").read_bytes().splitlines()) - 1
    assert begun >= 9
    packed(source, place, shard_bytes=1_000_000)
    assert bytes_in(place) == bytes_in(whole)


@contextlib.contextmanager
def killed_after(entries, arguments, place):
    """Starts a process and kills it when its journal has so many entries and the body is done."""
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    journal, deadline = place / "packing.journal", time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < entries:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_job_that_has_changed_is_not_gone_on_with(source, tmp_path, monkeypatch):
    place = tmp_path / "pack"
    interrupted(source, place, monkeypatch)
    with pytest.raises(UserError, match="expected to go on packing what was begun, got a difference in quality"):
        packed(source, place, quality=80)
    assert packed(source, place).photos == 16


def interrupted(source, place, monkeypatch):
    """Packs until the disk is full."""
    append, written = pack_files.PackFiles._append, []

    def until_full(self, photo):
        written.append(photo)
        if len(written) > 5:
            self._shard.close()
            self._shard = FullDisk()
        return append(self, photo)

    monkeypatch.setattr(pack_files.PackFiles, "_append", until_full)
    with pytest.raises(DiskFullError, match=r"pack: expected room on its disk, got: No space left .* make room"):
        packed(source, place)
    monkeypatch.undo()


class FullDisk:
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_after_a_full_disk_packing_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch):
    interrupted(source, tmp_path / "pack", monkeypatch)
    packed(source, tmp_path / "pack")
    packed(source, tmp_path / "in one go")
    assert bytes_in(tmp_path / "pack") == bytes_in(tmp_path / "in one go")


@pytest.mark.parametrize("content", ["pack", "other", "file"])
def test_nothing_is_overwritten(source, copied, tmp_path, content):
    place = {"pack": copied, "other": tmp_path / "other", "file": tmp_path / "file"}[content]
    if content == "other":
        place.mkdir()
        (place / "letter.txt").write_text("dear")
    if content == "file":
        place.write_text("dear")
    with pytest.raises(UserError, match=r"got .* with a whole pack|got .* with other files|got the file"):
        packed(source, place)


def with_broken(source, root, number):
    shutil.copytree(source, root)
    whole = (source / "plant" / "plain.jpg").read_bytes()
    for at in range(number):
        (root / "plant" / f"broken{at:02}.jpg").write_bytes(whole[: 2000 + at])
    return root


def test_broken_files_are_left_out_and_listed(source, tmp_path):
    result = packed(with_broken(source, tmp_path / "photos", 2), tmp_path / "pack")
    assert list(result.broken) == ["plant/broken00.jpg", "plant/broken01.jpg"]
    assert "Premature end" in result.broken["plant/broken00.jpg"]
    with (tmp_path / "pack" / "broken.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == list(result.broken)
    assert len(photos_of(tmp_path / "pack")) == result.photos == 16


def test_many_broken_files_end_the_packing_unless_allowed(source, tmp_path):
    root = with_broken(source, tmp_path / "photos", 11)
    with pytest.raises(UserError, match=r"11 of 27 files .* --allow-broken .* listed in .*broken.csv"):
        packed(root, tmp_path / "pack")
    assert len((tmp_path / "pack" / "broken.csv").read_text().splitlines()) == 12
    assert packed(root, tmp_path / "pack", allow_broken=True).photos == 16


@pytest.mark.parametrize("part", [0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_shard_is_refused_by_file_and_offset(copied, part):
    shard = copied / shard_name(1)
    end = int(part * shard.stat().st_size)
    os.truncate(shard, end)
    with pytest.raises(UserError, match=rf"{shard.name}: expected \d+ bytes, got its end at offset {end};"):
        pack(root=str(copied))


def test_a_shard_that_is_missing_or_too_long_is_refused(copied):
    with (copied / shard_name(0)).open("ab") as shard:
        shard.write(b"more")
    with pytest.raises(UserError, match=r"photos-00000.bin: expected \d+ bytes, got 4 more from offset \d+ on"):
        pack(root=str(copied))
    (copied / shard_name(0)).unlink()
    with pytest.raises(UserError, match=r"photos-00000.bin: expected a shard of \d+ bytes, got none"):
        pack(root=str(copied))


def test_an_index_that_is_cut_off_or_altered_anywhere_is_refused(copied):
    file = copied / INDEX_FILE
    data = file.read_bytes()
    for at in (*range(0, 60), *range(60, len(data), 37)):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]):
            file.write_bytes(damaged)
            with pytest.raises(UserError, match=r"index.bin: expected .*; copy or make the pack anew"):
                read_index(copied)


def test_a_flipped_byte_in_a_shard_is_named_by_file_and_offset_and_never_shown(copied, capsys):
    clean = batches_of(pack(root=str(copied)))
    photos = photos_of(copied)
    index = photos.index.paths.index(pack(root=str(copied)).train.paths[0])
    entry = photos.index.photos[index]
    shard, offset = copied / shard_name(entry["shard"]), int(entry["offset"])
    data = bytearray(shard.read_bytes())
    data[offset + int(entry["whole"]["bytes"]) // 2] ^= 1
    shard.write_bytes(data)
    number, found = faults(copied, num_threads=2)
    assert number == 16
    assert len(found) == 1
    assert found[0].startswith(photos.index.paths[index])
    assert f"{shard.name}: expected other bytes from {offset} to {offset + int(entry['whole']['bytes'])}" in found[0]
    batch = clean.train(request([0], 320))
    assert batch.unreadable == (f"{photos.index.paths[index]} ({shard.name} at offset {offset})",)
    assert command.main(["--verify", str(copied)]) == 2
    assert "1 of them damaged" in capsys.readouterr().out


def test_a_shard_that_is_cut_off_while_it_is_read_is_noticed(copied):
    batches = batches_of(pack(root=str(copied)))
    for shard in copied.glob("photos-*.bin"):
        os.truncate(shard, 1000)
    with pytest.raises(UserError, match="expected a readable image"):
        batches.train(request([0], 64))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), signed=st.booleans())
def test_arbitrary_bytes_are_no_index(tmp_path, data, signed):
    if signed:
        rest = struct.pack("<Q", len(data) // 2) + data
        data = b"\x89SXPACK\n" + struct.pack("<II", 1, zlib.crc32(rest)) + rest
    (tmp_path / INDEX_FILE).write_bytes(data)
    with pytest.raises(UserError, match=r"index.bin: "):
        read_index(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=5))
def test_an_index_of_nonsense_with_a_right_checksum_never_crashes_the_reader(whole, tmp_path, changes):
    data = bytearray((whole / INDEX_FILE).read_bytes())
    for part, value in changes:
        data[24 + int(part * (len(data) - 24))] = value
    data[12:16] = struct.pack("<I", zlib.crc32(data[16:]))
    for shard in whole.glob("photos-*.bin"):
        if not (tmp_path / shard.name).exists():
            os.link(shard, tmp_path / shard.name)
    (tmp_path / INDEX_FILE).write_bytes(data)
    try:
        photos = photos_of(tmp_path)
    except UserError:
        return
    for number in range(len(photos)):
        try:
            photo = photos.open(number)
            photo.pixels(2, (0, 0, 8, 8))
            photo.pixels(1)
        except ValueError:
            pass


def test_the_index_is_as_the_documentation_says(whole):
    """Read with nothing but docs/pack.md at hand."""
    data = (whole / "index.bin").read_bytes()
    magic, version, _, text_bytes = struct.unpack_from("<8sIIQ", data)
    assert (magic, version, PHOTO.itemsize) == (b"\x89SXPACK\n", 1, 92)
    first = 24 + text_bytes
    offset, shard, _, _, orientation, _, _ = struct.unpack_from("<QIIBBBB", data, first)
    length, checksum, width, height, header, size_at, interval, mcu_width, mcu_height = struct.unpack_from(
        "<IIIIHHHBB", data, first + 20
    )
    stored = (whole / f"photos-{shard:05}.bin").read_bytes()[offset : offset + length]
    assert zlib.crc32(stored) == checksum
    assert orientation == 1
    tiles = -(-width // (mcu_width * interval)) * -(-height // mcu_height)
    lengths = np.frombuffer(stored, "<u2", tiles)
    jpeg = stored[2 * tiles :]
    assert header + lengths.sum() == len(jpeg)
    assert struct.unpack_from(">HH", jpeg, size_at) == (height, width)


def test_the_command_packs_and_verifies(source, tmp_path, capsys):
    place = tmp_path / "pack"
    assert command.main([str(source), str(place)]) == 0
    assert "16 photos of 2 classes" in capsys.readouterr().out
    assert command.main(["--verify", str(place)]) == 0
    assert "16 photos, all of them whole" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos"], "expected two folders, SRC and DEST, got 1"),
        (["nowhere", "pack"], "got nowhere, which is no folder"),
        (["photos", "pack", "--quality", "0"], "--quality: expected a number from 1 to 100, got 0"),
        (["photos", "pack", "--workers", "0"], "--workers: expected at least 1, got 0"),
        (["--verify", "a", "b"], "--verify: expected one folder"),
        (["--verify", "nowhere"], "expected a pack, that is a folder with index.bin, got nowhere"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    assert message in capsys.readouterr().err
