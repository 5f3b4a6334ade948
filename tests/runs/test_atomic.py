import errno
import os
import subprocess

import pytest
import torch

from sizemix.errors import DiskFullError
from sizemix.runs.atomic import remove_partial_files, write_atomically


def write(path, content, **options):
    write_atomically(path, lambda file: file.write(content), **options)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_nothing_else_and_is_named(tmp_path, number):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old")

    def full_disk(file):
        file.write(b"half of it")
        raise OSError(number, os.strerror(number))

    message = rf"last.ckpt: expected room on its disk, got: {os.strerror(number)} \([\d.,]+ MiB free\); make room"
    with pytest.raises(DiskFullError, match=message):
        write_atomically(path, full_disk)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_what_they_are(tmp_path):
    def broken_disk(file):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "last.ckpt", broken_disk)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A real disk with room for 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_checkpoint_that_does_not_fit_on_a_real_disk_leaves_the_old_one(small_disk):
    path = small_disk / "last.ckpt"
    write_atomically(path, lambda file: torch.save({"weight": torch.zeros(100)}, file))
    with pytest.raises(DiskFullError, match="No space left on device"):
        write_atomically(path, lambda file: torch.save({"weight": torch.zeros(100_000)}, file))
    assert len(torch.load(path, weights_only=True)["weight"]) == 100
    assert list(small_disk.iterdir()) == [path]


def test_the_new_file_replaces_the_old_one_and_is_readable_by_others(tmp_path):
    path = tmp_path / "folder" / "last.ckpt"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_replaced_file_is_kept_and_at_no_moment_none_is_whole(tmp_path, monkeypatch):
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    whole = []
    replace = os.replace

    def watched(source, target):
        replace(source, target)
        whole.append({path.name: path.read_bytes() for path in (last, previous) if path.exists()})

    monkeypatch.setattr(os, "replace", watched)
    for content in (b"1", b"2", b"3"):
        write(last, content, previous=previous)
    assert whole == [
        {"last.ckpt": b"1"},
        {"previous.ckpt": b"1"},
        {"last.ckpt": b"2", "previous.ckpt": b"1"},
        {"previous.ckpt": b"2"},
        {"last.ckpt": b"3", "previous.ckpt": b"2"},
    ]


def test_only_what_a_killed_write_has_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: os._exit(0))  # the process ends before the file is in its place
    child = os.fork()
    if child == 0:
        try:
            write(tmp_path / "last.ckpt", b"whole, and not in its place")
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    (partial,) = tmp_path.iterdir()
    others = [tmp_path / name for name in ("last.ckpt", ".last.ckpt", "notes.partial", ".hidden.partial", ".a-b")]
    for path in others:
        path.write_bytes(b"")
    remove_partial_files(tmp_path)
    assert not partial.exists()
    assert sorted(tmp_path.iterdir()) == sorted(others)
