"""`sizemix cascade`: whether showing images small first, and larger only where the answer is unsure, pays."""

import argparse
from collections.abc import Sequence

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.errors import UserError

_DESCRIPTION = """Looks for cascades of a run's image sizes: every image is shown small first, and larger only where the
answer is unsure. Thresholds are chosen on validation images and judged on test images, against the single sizes. Reads
what the run, or `sizemix evaluate`, has left; no network runs."""


def main(arguments: Sequence[str]) -> int:
    """Studies what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _cascade(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="sizemix cascade", description=_DESCRIPTION)
    parser.add_argument("run", help="a run's folder, or one that sizemix evaluate has written")
    parser.add_argument("--max-gflops", type=float, metavar="G", help="mean of an image (a multiply-add is two)")
    parser.add_argument(
        "--stages", type=int, choices=(2, 3), default=2, help="sizes of the longest cascade; default: 2"
    )
    return parser


def _cascade(options: argparse.Namespace) -> None:
    budget = options.max_gflops
    if budget is not None and not 0 < budget < float("inf"):
        raise UserError(f"--max-gflops: expected a number above 0, got {budget:g}.")
    from rich.console import Console

    from sizemix.evaluation.cascade_study import study
    from sizemix.evaluation.stored import read_stored
    from sizemix.report.cascade import cascade_table, write_cascades

    evaluated = read_stored(options.run)
    found = study(evaluated.val, evaluated.test, evaluated.costs, num_stages=options.stages, max_gflops=budget)
    write_cascades(found, evaluated.files, test=evaluated.test, costs=evaluated.costs, title=evaluated.title)
    console = Console(highlight=False, markup=False)
    console.print(cascade_table(found, title=evaluated.title))
    console.print(f"Written: {options.run}/cascade.csv, cascade.json, cascade.png", soft_wrap=True)
    console.print(found.chosen.sentence, soft_wrap=True)
