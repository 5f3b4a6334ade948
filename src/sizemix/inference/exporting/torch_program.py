"""--format torch: model.pt2, a program that torch runs without the network's code."""

import json
import warnings
from pathlib import Path

import torch

from sizemix.inference.exporting.checking import Checked, check
from sizemix.inference.exporting.config import CONFIG, configuration
from sizemix.inference.exporting.program import traced
from sizemix.inference.exporting.subject import Subject

PROGRAM = "model.pt2"


def write_program(subject: Subject, folder: Path) -> Checked:
    """Writes model.pt2, which holds config.json as well, and config.json beside it.

    Raises:
        UserError: torch cannot follow the network, or the program disagrees.
    """
    found = traced(subject)
    text = json.dumps(configuration(subject, image_sizes=found.checked.image_sizes), indent=2) + "\n"
    torch.export.save(found.program, folder / PROGRAM, extra_files={CONFIG: text})
    (folder / CONFIG).write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch reads into memory that it says is not to be written
        loaded = torch.export.load(folder / PROGRAM).module()
    return check(subject.net, loaded, found.checked.image_sizes, name=PROGRAM)


def loading(folder: Path) -> str:
    """How it is loaded, in Python."""
    return f'import torch\nnet = torch.export.load("{folder / PROGRAM}").module()\nlogits = net(images)'
