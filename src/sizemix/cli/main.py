"""`sizemix COMMAND ...`."""

import os
import sys
from importlib import import_module

import sizemix
from sizemix.cli.pipe import reader_may_leave

# A command is the module of its name beside this one, with a main(arguments) that returns the exit code.
COMMANDS = {
    "train": "train at mixed or fixed image sizes, then show accuracy by size",
    "plan": "show what a run would spend at every size, before anything trains",
    "pack": "turn a folder of photos into a few large files from which small crops are read fast",
    "evaluate": "measure accuracy and cost at every size, and advise which one to deploy",
    "predict": "classify images by a run's network",
    "export": "write a run's network for timm, ONNX or torch, without sizemix",
    "cascade": "find out whether showing images small first, and larger only where unsure, pays",
    "doctor": "look at software, machine, images and network; say what is wrong and what to do",
    "compare": "show finished runs side by side on one page: what differs, where, how surely, at what cost",
    "dashboard": "save a sweep's comparison as a report in Weights & Biases",
}
_SUMMARIES = "".join(f"  {name:<9} {summary}\n" for name, summary in COMMANDS.items())
USAGE = f"""usage: sizemix COMMAND ...

commands:
{_SUMMARIES}
`sizemix COMMAND --help` says more; that of train lists all options. `sizemix --version` names the version.
"""


def main() -> int:
    """Hands the arguments to the command."""
    with reader_may_leave():
        return _main()


def _main() -> int:
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in COMMANDS:
        sys.argv[0] = f"sizemix {command}"
        sys.path.insert(0, os.getcwd())  # for schedules, models and data of the user's own
        module = import_module(f"sizemix.cli.{command}")  # a command imports only what it needs
        return int(module.main(arguments))
    if command == "--version":
        print(f"sizemix {sizemix.__version__}")
        return 0
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    known = ", ".join(COMMANDS)
    print(f"sizemix: expected a command ({known}), got {command}; see sizemix --help.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
