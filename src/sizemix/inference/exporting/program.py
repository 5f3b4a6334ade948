"""A network as a torch.export program: any batch, and any height and width where it can be."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import timm
import torch
from torch.export import Dim, ExportedProgram

from sizemix.errors import UserError
from sizemix.inference.exporting.checking import Checked, check
from sizemix.inference.exporting.subject import Subject

# timm's modules whose windows are cut and padded anew in each stage: torch 2.11 follows a free size through them for
# minutes (it had not finished swin_tiny after 2.5 minutes of CPU time).
_OF_ONE_SIZE = {"swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr"}
AXES = {0: "batch", 2: "height", 3: "width"}  # of images (batch, 3, height, width)


@dataclass(frozen=True)
class Traced:
    """A program that answers as its network does.

    Attributes:
        program: images (batch, 3, height, width) to logits.
        axes: names of the input's axes that may have any length.
        checked: sizes that it takes, and how well it agrees.
    """

    program: ExportedProgram
    axes: Mapping[int, str]
    checked: Checked

    @property
    def fixed_input_size(self) -> bool:
        """Whether it takes images of one size alone."""
        return len(self.axes) == 1


def traced(subject: Subject) -> Traced:
    """Traces with a free height and width; where that leaves one size, with a free batch alone.

    Raises:
        UserError: torch cannot follow the network.
    """
    if len(subject.image_sizes) > 1 and not _too_long(subject):
        try:
            found = _traced(subject, AXES)
        except Exception:  # whatever torch raises on code that depends on the size
            found = None
        if found is not None and len(found.checked.image_sizes) > 1:
            return found
    try:
        return _traced(subject, {0: AXES[0]})
    except UserError:
        raise
    except Exception as error:  # the same on any code
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"torch.export cannot follow {subject.architecture} ({type(error).__name__}: {reason}); take --format timm."
        ) from error


def _too_long(subject: Subject) -> bool:
    return subject.of_timm and timm.models.is_model_in_modules(subject.architecture, _OF_ONE_SIZE)


def _traced(subject: Subject, axes: Mapping[int, str]) -> Traced:
    images = torch.zeros(2, 3, subject.image_size, subject.image_size)  # a batch of 1 would be taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of its own affairs
        program = torch.export.export(subject.net, (images,), dynamic_shapes=(dict.fromkeys(axes, Dim.DYNAMIC),))
        loaded = program.module()
        image_sizes = [size for size in subject.image_sizes if _takes(loaded, size)]
        return Traced(program, axes, check(subject.net, loaded, image_sizes, name="torch's program"))


def _takes(program: torch.nn.Module, image_size: int) -> bool:
    """Whether torch's assumptions hold there: at a size that leaves one feature, for instance, they often do not."""
    try:
        program(torch.zeros(2, 3, image_size, image_size))
    except Exception:  # an AssertionError by a guard, anything by the code behind it
        return False
    return True
