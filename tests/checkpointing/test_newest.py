"""A run goes on from the newest checkpoint whose every byte is as it was written."""

import pytest
import torch

from sizemix.checkpointing.io import AtomicCheckpointIO
from sizemix.checkpointing.newest import newest_whole, set_aside
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    """A run that has saved behind steps 4 and 8."""
    folder = RunFolder(tmp_path)
    for step in (4, 8):
        save(folder, step)
    return folder


def save(folder, step):
    checkpoint = {"global_step": step, "state_dict": {"weight": torch.full((1000,), float(step))}}
    AtomicCheckpointIO().save_checkpoint(checkpoint, folder.last_checkpoint, folder.previous_checkpoint)


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit_of_a_weight(path):
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor([8.0, 8.0]).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_the_last_one_is_taken_while_it_is_whole(folder):
    newest = newest_whole(folder)
    assert (newest.path, newest.step, newest.damaged) == (folder.last_checkpoint, 8, None)


@pytest.mark.parametrize(
    "damage", [cut_off, flip_a_bit_of_a_weight, lambda path: path.write_bytes(b"")], ids=["half", "bit", "empty"]
)
def test_a_damaged_one_is_passed_over_in_a_sentence(folder, damage):
    damage(folder.last_checkpoint)
    newest = newest_whole(folder)
    assert (newest.path, newest.step) == (folder.previous_checkpoint, 4)
    assert newest.damaged.startswith("last.ckpt is damaged (")


def test_the_one_before_is_taken_where_a_kill_came_between_the_two_renames(folder):
    folder.last_checkpoint.unlink()
    newest = newest_whole(folder)
    assert (newest.path, newest.step, newest.damaged) == (folder.previous_checkpoint, 4, None)


def test_a_damaged_one_never_takes_the_place_of_the_whole_one_before(folder):
    cut_off(folder.last_checkpoint)
    set_aside(folder)
    save(folder, 12)
    assert newest_whole(folder).step == 12
    folder.last_checkpoint.unlink()
    assert newest_whole(folder).step == 4


def test_without_a_whole_one_nothing_is_started(folder):
    for path in (folder.last_checkpoint, folder.previous_checkpoint):
        cut_off(path)
    (folder.checkpoints / "best.ckpt").write_bytes(b"does not count")
    with pytest.raises(UserError, match=r"got none: last.ckpt is damaged .*; previous.ckpt is damaged .*start a new"):
        newest_whole(folder)


def test_a_run_without_checkpoints_begins_at_the_start(tmp_path):
    assert newest_whole(RunFolder(tmp_path)) is None
