"""One network at several sizes in turn: every image small first, the unsure ones larger."""

import json
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch

from sizemix.errors import UserError
from sizemix.evaluation.cascade import CascadePlan
from sizemix.inference.loading import SizedClassifier, load, refuse_one_path
from sizemix.inference.predicting import Prediction
from sizemix.inference.transform import Picture
from sizemix.runs.folder import RunFolder


class Cascade:
    """Shows each image at growing sizes until an answer is sure enough.

    Every size has its own statistics of batch norms and its own transform, so images that go on are read again.

    Args:
        classifier: switches sizes; afterwards it is at the size it had.
        image_sizes: sides in pixels, growing.
        thresholds: one for each size but the last: the probability from which on its answer stands.

    Raises:
        UserError: sizes that do not grow, or another number of thresholds.
    """

    def __init__(
        self, classifier: SizedClassifier, *, image_sizes: tuple[int, ...], thresholds: tuple[float, ...]
    ) -> None:
        self.classifier = classifier
        self.plan = CascadePlan(tuple(image_sizes), tuple(thresholds))

    @classmethod
    def load(cls, run: str | Path, *, device: str | torch.device = "cpu", trust_target: bool = False) -> Self:
        """The cascade that `sizemix cascade` has chosen for a run; warns if it does not beat a single size.

        Args:
            run: its folder.
            device: where the network goes.
            trust_target: see sizemix.load.

        Raises:
            UserError: no finished run, or no cascade.
        """
        plan = _chosen(RunFolder.open(run))
        return cls(
            load(run, image_size=plan.image_sizes[0], device=device, trust_target=trust_target),
            image_sizes=plan.image_sizes,
            thresholds=plan.thresholds,
        )

    def predict(self, pictures: Iterable[Picture], *, batch_size: int = 64) -> list[Prediction]:
        """The most probable class of every image, in order, each with the size that answered.

        Args:
            pictures: whatever SizedClassifier.predict takes; all are held at once.
            batch_size: images of a forward pass.

        Raises:
            UserError: an image that cannot be read, which it names; one path in place of several.
        """
        refuse_one_path(pictures)
        own_size = self.classifier.image_size
        try:
            return self._predict(list(pictures), batch_size)
        finally:
            self.classifier.set_image_size(own_size)

    def _predict(self, pictures: list[Picture], batch_size: int) -> list[Prediction]:
        answers: dict[int, Prediction] = {}
        unsure = list(range(len(pictures)))
        for image_size, threshold in zip(self.plan.image_sizes, (*self.plan.thresholds, 0.0), strict=True):
            self.classifier.set_image_size(image_size)
            found = self.classifier.predict((pictures[at] for at in unsure), batch_size=batch_size)
            for at, answer in zip(unsure, found, strict=True):
                first = answers.get(at, answer)
                answers[at] = replace(answer, name=first.name)  # images without a file are numbered in each call
            unsure = [at for at in unsure if answers[at].probability < threshold]
        return [answers[at] for at in range(len(pictures))]


def _chosen(folder: RunFolder) -> CascadePlan:
    file = folder.evaluation.cascade_json
    if not file.is_file():
        raise UserError(f"expected a cascade in {file}, got none; `sizemix cascade {folder.path}` chooses one.")
    try:
        told = json.loads(file.read_text())
        plan = CascadePlan(tuple(told["image_sizes"]), tuple(told["thresholds"]))
        pays, sentence = told["pays"], told["sentence"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"expected what `sizemix cascade` writes, got {file} ({type(error).__name__}: {error}); run it again."
        ) from error
    if not pays:
        warnings.warn(sentence, stacklevel=3)
    return plan
