import errno

import pytest
import torch

from sizemix.checkpointing.atomic import AtomicCheckpointIO, write_atomically


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


def test_checkpoints_come_back_as_they_were(tmp_path):
    checkpoint = {"state_dict": {"weight": torch.randn(3)}, "global_step": 7}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "a.ckpt")
    loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded["state_dict"]["weight"], checkpoint["state_dict"]["weight"])
    assert loaded["global_step"] == 7


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_reading_a_checkpoint_never_runs_code_from_it(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert "unpickled" not in capsys.readouterr().out
