"""What a comparison knows of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sizemix.evaluation.predictions import Predictions


@dataclass(frozen=True)
class SetAside:
    """A folder that takes no part.

    Attributes:
        path: the folder.
        state: failed, unfinished, damaged, unmatched or duplicate.
        reason: a sentence with what is missing and, where there is something, what to do.
    """

    path: Path
    state: str
    reason: str


@dataclass(frozen=True)
class SizeRow:
    """What a run spent at one training size.

    Attributes:
        image_size: pixels.
        global_batch_size: source images of a step; None where plan.csv is missing.
        num_repeats: augmented copies of each; None as above.
        steps: optimizer steps.
        images: source images.
        image_share, step_share, compute_share: of the run's.
    """

    image_size: int
    global_batch_size: int | None
    num_repeats: int | None
    steps: int
    images: int
    image_share: float
    step_share: float
    compute_share: float


@dataclass(frozen=True)
class Validation:
    """One validation during training.

    Attributes:
        steps: optimizer steps before it.
        top1: fraction of 1, at the run's val_size.
        seconds: of training so far; None where that is not recorded.
    """

    steps: int
    top1: float
    seconds: float | None


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        path: its folder.
        config: its options by full name.
        seed: of the run.
        data: what it calls its images.
        test: what tells other test images apart: number, classes and, where recorded, a digest.
        training_images: a digest of the images it was trained on; None where not recorded.
        base_size: pixels.
        val_size: size of its validation, pixels.
        accuracy: test top-1 by image size, with recalibrated statistics where there are batch norms.
        figures: further columns of the curve, by image size.
        recalibrated: whether there are batch norms.
        gflops: of an image's forward pass by test size; empty where not recorded.
        fingerprint: of the plan.
        steps, images_seen: trained.
        steps_planned: more than steps where the run has stopped early.
        sizes: what it planned at each training size.
        relative_cost: compute of the whole plan against the same images at the base size.
        images_planned: source images of the plan.
        compute: (steps + 1,) training compute before each step, in images at the base size; None without plan.csv.
        validations: of training, in order; empty without metrics.csv.
        training_seconds: with validations, over all resumes.
        environment: device, precision, number of processes and versions, by name.
        predictions: of the test images; None where not recorded.
        remarks: what is missing in the folder, as sentences.
    """

    path: Path
    config: Mapping[str, Any]
    seed: int
    data: str
    test: tuple[str | None, str]
    training_images: str | None
    base_size: int
    val_size: int
    accuracy: Mapping[int, float]
    figures: Mapping[int, Mapping[str, float]]
    recalibrated: bool
    gflops: Mapping[int, float]
    fingerprint: str
    steps: int
    steps_planned: int
    images_seen: int
    images_planned: int
    relative_cost: float
    sizes: tuple[SizeRow, ...]
    compute: NDArray[np.float64] | None
    validations: tuple[Validation, ...]
    training_seconds: float
    environment: Mapping[str, str]
    predictions: Predictions | None
    remarks: tuple[str, ...] = field(default=())

    @property
    def base_gflops(self) -> float | None:
        """Of the forward pass of an image at the base size, which the compute is counted in; None: not known."""
        return self.gflops.get(self.base_size)
