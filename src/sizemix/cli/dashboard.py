"""`sizemix dashboard`: a sweep's comparison as a saved report of Weights & Biases."""

import argparse
import os
import warnings
from collections.abc import Sequence

from sizemix.cli.ending import exit_code_of
from sizemix.cli.parser import Parser
from sizemix.errors import UserError

_DESCRIPTION = """Saves a report of a sweep in Weights & Biases: the sentences of sizemix compare, a table of arms, and
panels over the sweep's group, grouped by arm. The runs must be there already (logger=wandb; offline ones after
`wandb sync`). Built by W&B's own library and tested against recorded answers; nobody has run it against the service
yet, so look at the report before you pass it on."""
_EXAMPLES = """examples:
  sizemix dashboard multirun/2026-11-21/10-00-00
  sizemix dashboard multirun/2026-11-21/10-00-00 --entity my-team --project sizes"""


def main(arguments: Sequence[str]) -> int:
    """Saves a report of what the arguments name; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _save(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix dashboard",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="SWEEP_FOLDER", help="a sweep's folder, as multirun/<date>/<time>")
    parser.add_argument("--entity", metavar="E", help="user or team; default: that of the runs, else yours")
    parser.add_argument("--project", metavar="P", help="default: that of the runs")
    parser.add_argument("--baseline", metavar="ARM", help="arm to compare with; default: the base size alone")
    return parser


def _save(options: argparse.Namespace) -> None:
    _check_library()
    from sizemix.comparison.comparing import compare  # seconds, which --help does not need
    from sizemix.report.dashboard import dashboard, place_of, remarks

    comparison = compare([options.folder], baseline=options.baseline)
    place = place_of(comparison, entity=options.entity, project=options.project)
    _check_login()
    for remark in remarks(comparison):
        print(f"Note: {remark}")
    try:
        print(f"Saved: {dashboard(comparison, place).save().url}")
    except Exception as error:  # W&B's library raises bare ones, of a refused login as of a lost network
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"expected W&B to take a report for {place.project}, got {type(error).__name__}: {reason}; see `wandb "
            "login`, --entity and --project."
        ) from error


def _check_library() -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses what pydantic calls deprecated
            import wandb_workspaces.reports.v2  # noqa: F401
    except ImportError as error:
        raise UserError(
            "expected W&B's library for reports, got none; pip install 'sizemix[dashboard]', or "
            "pip install wandb-workspaces."
        ) from error


def _check_login() -> None:
    """Before W&B would ask for a key at the terminal."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")  # its lines about the report repeat ours
    if not wandb.login(prompt=False, verify=False):
        raise UserError("expected a login to Weights & Biases, got none; run `wandb login` once.")
