"""`sizemix doctor`: looks at everything that a run needs, trains nothing, and says what is wrong and what to do."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from omegaconf import DictConfig
from rich.console import Console

from sizemix.cli.compose import compose
from sizemix.diagnosis.finding import Check, Finding, carried_out
from sizemix.diagnosis.versions import check_pillow, check_torchvision, check_versions
from sizemix.report.diagnosis import conclusion, section_table

_HELP = """usage: sizemix doctor [OPTION=VALUE ...]

Takes the options of sizemix train, trains nothing and writes nothing. Looks at versions, devices and memory, opens the
images, builds the network, measures loader and network at the smallest, the base and the largest training size, and
says what is wrong and what to do about it. Ends with 2 if a run would fail, else with 0.

  sizemix doctor data=folder data.root=photos/ model=resnet50 sizes=mixed
"""
_WIDEST = 110  # columns of the report


def main(arguments: Sequence[str]) -> int:
    """Examines what the arguments describe; returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    console = Console(highlight=False, markup=False)
    findings: list[Finding] = []
    try:
        for heading, found in _sections(arguments):
            console.print(section_table(heading, found, width=min(console.width, _WIDEST)))
            findings += found
    except KeyboardInterrupt:
        print("sizemix: interrupted.", file=sys.stderr)
        return 130
    console.print(conclusion(findings))
    return 2 if any(finding.verdict == "problem" for finding in findings) else 0


def _sections(arguments: Sequence[str]) -> Iterator[tuple[str, list[Finding]]]:
    found: list[Finding] = []
    carried_out(check_versions(), found, subject="versions")
    carried_out(check_pillow(), found, subject="JPEG")
    carried_out(check_torchvision(), found, subject="torchvision")
    examination = carried_out(_examination(), found, subject="imports")
    yield "Versions", found
    found = []
    config = carried_out(_composed(arguments), found, subject="options")
    if examination is not None:
        yield examination.examine_machine(wants_gpu=config is None or config.trainer.accelerator != "cpu")
    if config is None:
        yield "Configuration", found
    elif examination is not None:
        yield from examination.examine_run(config, runs=_place_of_runs(arguments))


def _place_of_runs(arguments: Sequence[str]) -> Path:
    """The part of hydra.run.dir that does not depend on the time or the run's name."""
    given = [value for name, _, value in (one.partition("=") for one in arguments) if name == "hydra.run.dir"]
    return Path(given[-1].strip("'\"").partition("${")[0]) if given else Path("outputs")


def _examination() -> Check[ModuleType]:
    """Imports what fails where torch or another library is broken; that is all there is to say of it."""
    yield from ()
    from sizemix.diagnosis import examination

    return examination


def _composed(arguments: Sequence[str]) -> Check[DictConfig]:
    yield from ()
    return compose(arguments)
