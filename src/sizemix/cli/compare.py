"""`sizemix compare`: finished runs side by side, on one page."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.errors import UserError

_DESCRIPTION = """Compares the arms of finished runs: those that differ in nothing but seed are one arm. Writes
comparison.html (one page that needs nothing else), comparison.csv, findings.json and the pictures; trains nothing."""
_EXAMPLES = """examples:
  sizemix compare multirun/2026-11-21/10-00-00
  sizemix compare multirun/fixed multirun/mixed --out docs/fixed_vs_mixed --margin 1
  sizemix compare outputs/*/* --baseline fixed"""


def main(arguments: Sequence[str]) -> int:
    """Compares what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _compare(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix compare",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="run folders, or folders with runs below them")
    parser.add_argument("--out", type=Path, default=Path("comparison"), metavar="FOLDER", help="default: comparison")
    parser.add_argument(
        "--margin", default="0.5", metavar="POINTS", help='loss of accuracy that still is "no worse"; default: 0.5'
    )
    parser.add_argument(
        "--baseline",
        metavar="ARM",
        help="arm to compare with, or a part of its name; default: the base size alone",
    )
    return parser


def _compare(options: argparse.Namespace) -> None:
    margin = _margin(options.margin)
    from sizemix.comparison.comparing import compare  # scipy and matplotlib take seconds, which --help does not need
    from sizemix.comparison.findings import findings
    from sizemix.report.comparison import write_comparison

    comparison = compare(options.paths, margin=margin, baseline=options.baseline)
    try:
        write_comparison(comparison, options.out)
    except OSError as error:
        raise UserError(f"--out: expected a folder to write to, got {options.out} ({error.strerror}).") from error
    for finding in findings(comparison):
        print(f"- {finding.text}")
    for one in comparison.set_aside:
        print(f"Left out, {one.state}: {one.path}: {one.reason}")
    for remark in comparison.remarks:
        print(f"Note: {remark}")
    print(f"Written: {options.out}/comparison.html, comparison.csv, findings.json and pictures")


def _margin(text: str) -> float:
    try:
        margin = float(text) / 100
    except ValueError:
        margin = -1.0
    if not 0 < margin < 1:
        raise UserError(f"--margin: expected percentage points between 0 and 100, got {text}; the default is 0.5.")
    return margin
