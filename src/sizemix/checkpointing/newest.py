"""Which checkpoint a run goes on from: the newest one that is whole."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder


@dataclass(frozen=True)
class Newest:
    """Where a run goes on.

    Attributes:
        path: a checkpoint that has been read to its last byte.
        step: optimizer steps behind it.
        damaged: why last.ckpt was passed over; None where it was not.
    """

    path: Path
    step: int
    damaged: str | None


def newest_whole(folder: RunFolder) -> Newest | None:
    """The newest checkpoint that can be read: last.ckpt, else the one before; None where a run has none yet.

    best.ckpt does not count: it is as old as the best validation.

    Raises:
        UserError: there are some, and none is whole.
    """
    damage: list[str] = []
    for path in (folder.last_checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        try:
            step = _read_all(path)
        except Exception as error:  # whatever torch, zipfile and pickle make of broken bytes
            damage.append(f"{path.name} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:120]})")
        else:
            return Newest(path, step, damaged=damage[0] if damage else None)
    if damage:
        raise UserError(
            f"{folder.path}: expected a whole checkpoint, got none: {'; '.join(damage)}; put back a copy of one, or "
            "start a new run."
        )
    return None


def set_aside(folder: RunFolder) -> None:
    """Moves a damaged last.ckpt away, so that the next save does not keep it in place of the whole one before."""
    folder.last_checkpoint.rename(folder.checkpoints / "damaged.ckpt")


def _read_all(path: Path) -> int:
    """Its optimizer steps; raises whatever reading raises."""
    with zipfile.ZipFile(path) as file:
        broken = file.testzip()  # compares every part with its checksum, which loading does not
    if broken is not None:
        raise ValueError(f"the checksum of {broken} differs")
    return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"])
