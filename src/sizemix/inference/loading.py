"""A run's network as a plain module that knows its size, its statistics, its transform and its classes."""

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.inference.predicting import Prediction, Unreadable, predictions
from sizemix.inference.transform import Picture, Transform
from sizemix.inference.trust import check_targets
from sizemix.models.bank import BatchNormBank
from sizemix.models.batchnorm import batch_norms, put
from sizemix.models.weights import Weights, read_weights
from sizemix.runs.folder import RunFolder
from sizemix.training.instantiate import NOT_THE_ARCHITECTURE, instantiate, without


def load(
    run: str | Path,
    *,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
    trust_target: bool = False,
) -> "SizedClassifier":
    """A finished run's network, ready to classify: the averaged one where the run averaged.

    Nothing in the run's files is unpickled or, without trust_target, called.

    Args:
        run: its folder.
        image_size: the size to begin with, pixels; None: the one that the run advised.
        device: where it goes.
        trust_target: build the network by the function that the run's config.yaml names although it is not sizemix's,
            which runs that function; for runs of your own.

    Raises:
        UserError: no finished run, or files that do not belong together.
    """
    folder = RunFolder.open(run)
    summary = run_summary(folder)
    net = run_network(folder, num_classes=len(summary.class_names), trust_target=trust_target).to(device)
    bank = None
    if batch_norms(net):
        bank = BatchNormBank.load(folder.evaluation.bank_file)
        bank.check(net, folder.evaluation.bank_file)
    return SizedClassifier(
        net,
        bank=bank,
        preprocessing=summary.preprocessing,
        class_names=summary.class_names,
        image_sizes=tuple(bank.statistics) if bank else summary.image_sizes,
        image_size=summary.advised_size if image_size is None else image_size,
    )


def run_network(folder: RunFolder, *, num_classes: int, trust_target: bool) -> nn.Module:
    """The network that a run trained, in eval mode, with its newest weights; the averaged ones where there are some.

    Args:
        folder: the run's.
        num_classes: outputs.
        trust_target: see load.

    Raises:
        UserError: no checkpoint, or a network of somebody's own.
    """
    settings: DictConfig = folder.config().model
    check_targets(settings, where=folder.path, trust_target=trust_target)
    net: nn.Module = instantiate(without(settings, *NOT_THE_ARCHITECTURE), "model", num_classes=num_classes)
    weights = _newest_weights(folder)
    try:
        net.load_state_dict(dict(weights.tensors))
    except RuntimeError as error:
        raise UserError(
            f"{weights.source}: expected the weights of {settings.get('name') or settings._target_}, as config.yaml "
            f"says, got others ({' '.join(str(error).split())[:200]})."
        ) from error
    return net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _newest_weights(folder: RunFolder) -> Weights:
    try:
        return read_weights(folder.path)
    except UserError as error:
        mistake = str(error).removeprefix("model.checkpoint: ").rstrip(".")
        raise UserError(
            f"{folder.path}: {mistake}; or remove its summary.json: resume={folder.path} goes on from previous.ckpt."
        ) from error


@dataclass(frozen=True)
class RunSummary:
    """What summary.json says of a finished run that its network needs.

    Attributes:
        class_names: one an output.
        preprocessing: what the network was trained to see.
        image_sizes: sides in pixels that it was evaluated at.
        advised_size: which of them to deploy.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    image_sizes: tuple[int, ...]
    advised_size: int


def run_summary(folder: RunFolder) -> RunSummary:
    """Reads it.

    Raises:
        UserError: the run has not finished, or its summary is damaged or an older version's.
    """
    folder.check_finished()
    try:
        summary = json.loads(folder.summary_file.read_text())
        seen = summary["preprocessing"]
        return RunSummary(
            tuple(summary["class_names"]),
            Preprocessing(**{**seen, "mean": tuple(seen["mean"]), "std": tuple(seen["std"])}),
            tuple(point["image_size"] for point in summary["curve"]),
            summary["advice"]["image_size"],
        )
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"expected what this version of sizemix writes at a run's end, got {folder.summary_file} "
            f"({type(error).__name__}: {error}); put back a copy, or train again."
        ) from error


class SizedClassifier(nn.Module):
    """A network at one of the sizes that it has been evaluated at; the size can be changed at any time.

    Args:
        net: images to logits.
        bank: batch-norm statistics by size; None for a network without batch norms.
        preprocessing: what the network was trained to see.
        class_names: one an output.
        image_sizes: sizes that it was evaluated at, pixels.
        image_size: the size to begin with.

    Attributes:
        net: the network itself, with the statistics of the size.
        image_size: side in pixels that images are shown at.
        image_sizes: sides in pixels that it was evaluated at.
        class_names: one an output.
        preprocessing: what the network was trained to see.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        bank: BatchNormBank | None,
        preprocessing: Preprocessing,
        class_names: tuple[str, ...],
        image_sizes: tuple[int, ...],
        image_size: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.class_names = class_names
        self.image_sizes = image_sizes
        self.preprocessing = preprocessing
        self._bank = bank
        self.eval()
        self.set_image_size(image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, image_size, image_size), as transform makes them, to logits (batch, classes)."""
        logits: Tensor = self.net(images)
        return logits

    def set_image_size(self, image_size: int) -> Self:
        """Takes the statistics of a size; of one that was not evaluated, those of the nearest, with a warning.

        Raises:
            UserError: a size that is no positive number.
        """
        if not isinstance(image_size, int) or image_size < 1:
            raise UserError(f"image_size: expected a positive whole number of pixels, got {image_size!r}.")
        self.image_size = image_size
        if self._bank is not None:
            nearest = self._bank.nearest(image_size)
            if nearest != image_size:
                warnings.warn(
                    f"there are no batch-norm statistics for {image_size} px: those of {nearest} px are used; "
                    f"`sizemix evaluate RUN 'evaluation.eval_sizes=[{image_size}]'` makes them.",
                    stacklevel=2,
                )
            put(self.net, self._bank.statistics[nearest])
        return self

    @property
    def transform(self) -> Transform:
        """From one image to (3, image_size, image_size), normalised, as evaluation shows it."""
        return Transform(self.preprocessing, self.image_size)

    def predict(self, pictures: Iterable[Picture], *, batch_size: int = 64) -> list[Prediction]:
        """The most probable class of every image, in order.

        Args:
            pictures: whatever transform takes, as paths or (3, height, width) tensors of bytes.
            batch_size: images of a forward pass.

        Raises:
            UserError: an image that cannot be read, which it names; one path in place of several.
        """
        refuse_one_path(pictures)
        found = list(
            predictions(
                self.net, pictures, transform=self.transform, class_names=self.class_names, batch_size=batch_size
            )
        )
        broken = next((one for one in found if isinstance(one, Unreadable)), None)
        if broken is not None:
            raise UserError(f"expected images, got {broken.name}, which cannot be read ({broken.reason}).")
        return [one for one in found if not isinstance(one, Unreadable)]


def refuse_one_path(pictures: object) -> None:
    """A text is a sequence too, of letters.

    Raises:
        UserError: one path in place of several.
    """
    if isinstance(pictures, str | Path):
        raise UserError(f"expected several images, got the one path {pictures}; put it into a list.")
