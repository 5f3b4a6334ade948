"""The run folders below some paths."""

import os
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

from sizemix.errors import UserError
from sizemix.runs.folder import FAILURE

_CONFIG = "config.yaml"


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
    """Run folders, and places of a sweep's jobs that failed before they had one; each once, in the order of the paths.

    Args:
        paths: run folders, or folders with run folders anywhere below.

    Raises:
        UserError: a path that does not exist, or no run in any of them.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(
                f"expected folders with runs, got {path}, which is no folder; runs stand under outputs/ and multirun/."
            )
        known = {folder.resolve() for folder in found}
        found |= dict.fromkeys(folder for folder in runs_below(path) if folder.resolve() not in known)
    if not found:
        names = ", ".join(map(str, paths))
        raise UserError(f"expected folders with runs, got {names}, which hold none; give outputs/ or multirun/.")
    return list(found)


def runs_below(top: Path) -> Iterator[Path]:
    """The same of one folder, in the order of the jobs; perhaps none."""
    for folder, subfolders, files in os.walk(top):
        subfolders.sort(key=_in_order_of_numbers)
        if _CONFIG in files or FAILURE in files:
            subfolders.clear()  # a run holds no runs, but loggers have files named config.yaml
            yield Path(folder)


def _in_order_of_numbers(name: str) -> tuple[float, str]:
    """A sweep's jobs are called 0-..., 1-..., 10-...; other names come behind."""
    number = name.partition("-")[0]
    return (float(number) if number.isdecimal() else inf, name)
