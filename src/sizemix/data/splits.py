"""Which files are for training, validation and test: drawn once, written down, read again."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizemix.errors import UserError
from sizemix.runs.tables import write_csv

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitFile:
    """One image file's place in a data set.

    Attributes:
        path: relative to the data's root, with slashes.
        class_name: its class.
        split: train, val or test.
    """

    path: str
    class_name: str
    split: str


def hold_out(files: Sequence[tuple[str, str]], fraction: float, *, seed: int, group_pattern: str | None) -> set[str]:
    """Draws a stratified part of the files; files of one group stay together.

    Args:
        files: (path, class name) of the files to draw from.
        fraction: of every class, as nearly as its groups allow; at least one group stays behind.
        seed: of the draw.
        group_pattern: regular expression that is searched in the file's name; files with the same match (its first
            parenthesis where it has one) are a group. None: every file is its own.

    Returns:
        The paths drawn.

    Raises:
        UserError: a pattern that is no regular expression or matches nothing, or a class with a single group.
    """
    groups = _groups(files, group_pattern)
    sizes = Counter(class_name for _, class_name in files)
    groups_left = Counter(class_name for members in groups for class_name in {name for _, name in members})
    alone = [class_name for class_name, number in sorted(groups_left.items()) if number < 2]
    if alone and fraction:
        raise UserError(
            f"expected images (or groups) enough in every class, one for each part that is held out and one more, got "
            f"too few of {', '.join(alone[:5])}; add images, or give the splits as train/, val/ and test/."
        )
    wanted = {class_name: max(1, round(fraction * number)) for class_name, number in sizes.items()}
    drawn: Counter[str] = Counter()
    held_out: set[str] = set()
    for at in np.random.default_rng([seed, 4]).permutation(len(groups)):
        members = groups[at]
        classes = Counter(class_name for _, class_name in members)
        rarest = min(classes, key=lambda name: (sizes[name], name))
        fits = drawn[rarest] == 0 or drawn[rarest] + classes[rarest] / 2 <= wanted[rarest]
        if drawn[rarest] < wanted[rarest] and fits and all(groups_left[name] > 1 for name in classes):
            held_out.update(path for path, _ in members)
            drawn.update(classes)
            groups_left.subtract(classes.keys())
    return held_out


def write_split(files: Sequence[SplitFile], path: Path) -> None:
    """One row a file: path, class, split."""
    write_csv(path, ["path", "class", "split"], ((file.path, file.class_name, file.split) for file in files))


def read_split(path: Path) -> list[SplitFile]:
    """What write_split wrote.

    Raises:
        UserError: no such file, or not of that form.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            files = [SplitFile(row["path"], row["class"], row["split"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.split_file: expected a split.csv with path, class, split, got {path}.") from error
    odd = {file.split for file in files} ^ set(SPLITS)
    if odd:
        raise UserError(f"{path}: expected files of the splits train, val and test, got a difference in {sorted(odd)}.")
    return files


def _groups(files: Sequence[tuple[str, str]], pattern: str | None) -> list[list[tuple[str, str]]]:
    if pattern is None:
        return [[file] for file in files]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group_pattern: expected a regular expression, got {pattern!r} ({error}).") from error
    groups: dict[str, list[tuple[str, str]]] = {}
    matched = 0
    for path, class_name in files:
        match = compiled.search(path.rpartition("/")[2])
        matched += match is not None
        first = match and next((part for part in match.groups() if part is not None), match[0])
        key = f"file {path}" if first is None else f"group {first}"
        groups.setdefault(key, []).append((path, class_name))
    if not matched:
        raise UserError(f"data.group_pattern: expected to match file names such as {files[0][0]}, got {pattern!r}.")
    return list(groups.values())
