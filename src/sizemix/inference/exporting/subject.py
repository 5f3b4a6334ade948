"""What is exported: a run's network at one size, and all that its files tell of it."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from omegaconf import DictConfig
from torch import nn

from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.inference.loading import SizedClassifier, load
from sizemix.models.backbone import training_flops
from sizemix.models.batchnorm import batch_norms
from sizemix.runs.folder import RunFolder
from sizemix.training.instantiate import TIMM

_EVALUATED_SIZES = 3  # those that are tried, and two in each gap between them
_STRIDES = (32, 16, 8, 4, 2)  # of networks


@dataclass(frozen=True)
class Subject:
    """A network that holds the statistics of a size.

    Attributes:
        net: images (batch, 3, height, width) to logits; in eval mode, on the CPU.
        image_size: side in pixels.
        image_sizes: image_size, and other sides in pixels that the network takes: the ends of those that the run was
            evaluated at, and sides in between that it was not.
        architecture: the network's name.
        recalibrated: whether it has batch norms, and with them statistics of the size.
        preprocessing: what it was trained to see.
        class_names: one an output.
        config: of the run.
        summary: the run's summary.json.
    """

    net: nn.Module
    image_size: int
    image_sizes: tuple[int, ...]
    architecture: str
    recalibrated: bool
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    config: DictConfig
    summary: Mapping[str, Any]

    @property
    def of_timm(self) -> bool:
        """Whether timm builds it by its name."""
        return bool(self.config.model._target_ == TIMM)

    @property
    def registered_by_sizemix(self) -> bool:
        """Whether timm knows the name once sizemix has been imported, and not before."""
        return self.of_timm and timm.models.model_entrypoint(self.architecture).__module__.startswith("sizemix.")


def subject_of(run: str | Path, *, image_size: int | None, trust_target: bool) -> Subject:
    """A run's network at a size; None: the one that the run advised.

    Raises:
        UserError: no finished run, a size without statistics, or one that the network does not take.
    """
    classifier = load(run, trust_target=trust_target)
    folder = RunFolder(run)
    config = folder.config()
    name = config.model.get("name") or config.model._target_
    size = classifier.image_size if image_size is None else image_size
    _check_size(classifier, size, folder.path)
    training_flops(classifier.net, [size], name=name)
    # Not channels_last: files hold plain memory, and what reads them chooses its own.
    net = copy.deepcopy(classifier.set_image_size(size).net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Subject(
        net.requires_grad_(False),
        size,
        taken_sizes(net, size, classifier.image_sizes, name=name),
        name,
        bool(batch_norms(net)),
        classifier.preprocessing,
        classifier.class_names,
        config,
        json.loads(folder.summary_file.read_text()),
    )


def _check_size(classifier: SizedClassifier, image_size: int, run: Path) -> None:
    if image_size < 1:
        raise UserError(f"--image-size: expected a positive number of pixels, got {image_size}.")
    if batch_norms(classifier.net) and image_size not in classifier.image_sizes:
        known = ", ".join(map(str, classifier.image_sizes))
        raise UserError(
            f"--image-size: expected a size with batch-norm statistics of its own ({known} px), got {image_size}; "
            f"`sizemix evaluate {run} 'evaluation.eval_sizes=[{image_size}]'` makes them."
        )


def taken_sizes(net: nn.Module, image_size: int, evaluated: tuple[int, ...], *, name: str) -> tuple[int, ...]:
    """The size and, of other evaluated sizes, of multiples, and of sizes in between, what the network takes."""
    wanted = [image_size, min(evaluated), max(evaluated), *evaluated, 2 * image_size, 3 * image_size]
    taken: list[int] = []
    for size in dict.fromkeys(wanted):
        if len(taken) < _EVALUATED_SIZES and _takes(net, size, name):
            taken.append(size)
    for low, high in pairwise(sorted(taken)):
        for candidates in _between(low, high):
            unseen = (size for size in candidates if size not in evaluated and _takes(net, size, name))
            taken += islice(unseen, 1)
    return tuple(taken)


def _between(low: int, high: int) -> Iterator[list[int]]:
    """Sizes near the middle: an odd one, which no stride divides, and even ones, multiples of large strides first.

    What torch has traced may hold for one kind alone.
    """
    middle = (low + high) // 2
    even = [number * stride for stride in _STRIDES for number in (middle // stride, middle // stride + 1)]
    for sizes in ([middle | 1], even):
        yield [size for size in sizes if low < size < high]


def _takes(net: nn.Module, image_size: int, name: str) -> bool:
    try:
        training_flops(net, [image_size], name=name)
    except UserError:
        return False
    return True
