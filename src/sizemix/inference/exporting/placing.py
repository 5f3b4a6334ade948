"""Folders that are either whole or not there."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sizemix.errors import UserError
from sizemix.inference.exporting.config import CONFIG
from sizemix.runs.atomic import full_disk_named

_FILES = {CONFIG, "README.md", "model.safetensors", "model.pt2", "model.onnx", "model.onnx.data"}

T = TypeVar("T")


def check_free(folder: Path) -> None:
    """Proves that a folder may be written: it is new, empty, or an earlier export.

    Raises:
        UserError: it holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"--out: expected a folder, got {folder}, which is a file; give another.")
    inside = {path.name for path in folder.iterdir()}
    if inside and not (inside <= _FILES and _is_export(folder)):
        raise UserError(
            f"--out: expected a new folder or an earlier export, got {folder}, which holds "
            f"{min(inside - _FILES, default=CONFIG)}; give another."
        )


def placed(folder: Path, write: Callable[[Path], T]) -> T:
    """Has a folder filled beside its place, forces it to disk and renames it; an earlier export is replaced.

    Args:
        folder: where it goes; see check_free.
        write: fills the folder that it is given.

    Raises:
        DiskFullError: no room for it; what was there stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    waiting = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-", suffix=".partial"))
    try:
        with full_disk_named(folder):
            new = waiting / "new"
            new.mkdir()
            result = write(new)
            for file in new.iterdir():
                _finish(file)
        if folder.exists():
            os.replace(folder, waiting / "old")
        os.replace(new, folder)
        return result
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _is_export(folder: Path) -> bool:
    try:
        told = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and "sizemix" in told


def _finish(file: Path) -> None:
    """Forces it to disk, readable for all as other files are: safetensors writes for the owner alone."""
    file.chmod(0o644)
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
