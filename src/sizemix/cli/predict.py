"""`sizemix predict`: classes of images, by a run's network."""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.errors import UserError

if TYPE_CHECKING:
    from sizemix.inference.loading import SizedClassifier
    from sizemix.inference.predicting import Prediction, Unreadable

_SHOWN = 20  # rows in the terminal; the CSV file has all
_PROBLEM = 1  # exit code where some images could not be read


def main(arguments: Sequence[str]) -> int:
    """Classifies what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _predict(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix predict",
        description="Classifies images by a run's network. Ends with 1 if some of them could not be read.",
    )
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--image-size", type=int, help="pixels; the size that the run advised if left out")
    parser.add_argument("--out", type=Path, help="a CSV file with all predictions")
    parser.add_argument("--batch-size", type=int, default=64, help="images of a forward pass")
    parser.add_argument("--device", default="cpu", help="as cuda, mps; cpu if left out")
    parser.add_argument("--trust-target", action="store_true", help="build a network of your own, as the run names it")
    return parser


def _predict(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sizemix.inference.loading import load
    from sizemix.inference.predicting import Unreadable, predictions

    files = list(_files(options.images))
    if options.out is not None and not os.access(options.out.absolute().parent, os.W_OK):
        raise UserError(f"--out: expected a file in a folder that can be written, got {options.out}; give another.")
    if options.batch_size < 1:
        raise UserError(f"--batch-size: expected at least 1, got {options.batch_size}.")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        classifier = load(
            options.run,
            image_size=options.image_size,
            device=_device(options.device),
            trust_target=options.trust_target,
        )
    for warning in told:
        print(f"sizemix: {warning.message}", file=sys.stderr)
    _check_size(classifier, batch_size=min(options.batch_size, len(files)))
    found = list(
        tqdm(
            predictions(
                classifier.net,
                files,
                transform=classifier.transform,
                class_names=classifier.class_names,
                batch_size=options.batch_size,
            ),
            total=len(files),
            desc=f"Predicting at {classifier.image_size} px",
            unit="image",
            disable=None,
        )
    )
    good = [one for one in found if not isinstance(one, Unreadable)]
    broken = [one for one in found if isinstance(one, Unreadable)]
    _show(good, told_all=options.out is not None)
    if options.out is not None:
        _write(found, options.out)
        print(f"Written: {options.out}")
    for one in broken:
        print(f"sizemix: {one.name} cannot be read ({one.reason}).", file=sys.stderr)
    return _PROBLEM if broken else 0


def _check_size(classifier: "SizedClassifier", *, batch_size: int) -> None:
    """A size that the network or the memory does not take is no photo's fault."""
    import torch

    from sizemix.evaluation.cost import counted_costs
    from sizemix.models.memory import check_evaluation_memory

    size = classifier.image_size
    counted_costs(classifier.net, [size], name="--image-size: the network")
    device = next(classifier.parameters(), torch.empty(0)).device
    check_evaluation_memory(classifier.net, image_sizes={size: batch_size}, device=device, autocast=nullcontext)


def _files(places: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and all image files below the folders."""
    from PIL import Image

    extensions = Image.registered_extensions()
    for place in places:
        if place.is_dir():
            os.listdir(place)  # says so where it must not be read
            inside = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in extensions]
            if not inside:
                raise UserError(f"expected image files in {place}, found none; give another folder.")
            yield from inside
        elif place.exists():
            yield place
        else:
            raise UserError(f"expected an image file or a folder of them, got {place}, which does not exist.")


def _device(name: str) -> str:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--device: expected a device of this machine, got {name} ({str(error).splitlines()[0]})."
        ) from error
    return name


def _show(found: Sequence["Prediction"], *, told_all: bool) -> None:
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for one in found[:_SHOWN]:
        table.add_row(one.name, one.class_name, f"{one.probability:.1%}")
    console = Console(highlight=False, markup=False)
    if found:
        console.print(table)
    if len(found) > _SHOWN:
        more = "" if told_all else "; --out FILE writes all of them"
        console.print(f"and {len(found) - _SHOWN} more{more}.")


def _write(found: "Sequence[Prediction | Unreadable]", path: Path) -> None:
    from sizemix.inference.predicting import Unreadable
    from sizemix.runs.tables import write_csv

    rows = (
        (one.name, None, None, one.reason)
        if isinstance(one, Unreadable)
        else (one.name, one.class_name, f"{one.probability:.6f}", None)
        for one in found
    )
    try:
        write_csv(path, ("image", "class", "probability", "problem"), rows)
    except OSError as error:
        raise UserError(f"--out: expected a file that can be written, got {path} ({error.strerror}).") from error
