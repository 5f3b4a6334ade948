import errno

import pytest

from sizemix.runs.atomic import write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old")

    def full_disk(file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, full_disk)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_replaces_the_old_one_and_is_readable_by_others(tmp_path):
    path = tmp_path / "folder" / "last.ckpt"
    for content in (b"old", b"new"):
        write_atomically(path, lambda file, content=content: file.write(content))
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
