"""Everything that is to be known of a trained network at many sizes: accuracy, cost, and which size to deploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import nn

from sizemix.data.datamodule import SizedDataModule
from sizemix.evaluation.advice import NO_WISH, Advice, Wish, advise
from sizemix.evaluation.cost import Autocast, SizeCost, counted_costs, measured_costs
from sizemix.evaluation.curve import predictions, size_statistics
from sizemix.evaluation.predictions import Predictions
from sizemix.evaluation.scores import ClassAccuracy, CurvePoint, class_accuracies, curve_points
from sizemix.models.bank import BatchNormBank, Calibration, weights_digest

Measure = Literal["gflops", "latency", "throughput"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a network is evaluated; what is to be compared needs the same.

    Attributes:
        image_sizes: sides in pixels.
        reference_size: what advice compares with; the nearest of image_sizes is taken.
        calibration: how batch norms are recalibrated.
        measure: gflops (count only), latency (time single images as well), throughput (and whole batches).
    """

    image_sizes: tuple[int, ...]
    reference_size: int
    calibration: Calibration
    measure: Measure = "latency"

    @property
    def nearest_reference(self) -> int:
        """The evaluated size that is next to the reference."""
        return min(self.image_sizes, key=lambda size: (abs(size - self.reference_size), size))


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        protocol: how it was made.
        test: what the network says of the test images.
        val: and of the validation images, which choose.
        bank: batch-norm statistics of every size.
        costs: one a size.
        device: where time was measured, in words.
    """

    protocol: EvaluationProtocol
    test: Predictions
    val: Predictions
    bank: BatchNormBank
    costs: list[SizeCost]
    device: str

    @cached_property
    def points(self) -> list[CurvePoint]:
        """The curve of the test images."""
        return curve_points(self.test)

    @property
    def classes(self) -> list[ClassAccuracy]:
        """Of the test images."""
        return class_accuracies(self.test)

    def advice(self, wish: Wish = NO_WISH) -> Advice:
        """The size to deploy, chosen on the validation images.

        Raises:
            UserError: no size fulfils the wish.
        """
        return advise(self.val, self.costs, reference_size=self.protocol.nearest_reference, wish=wish)


def evaluate(
    net: nn.Module,
    datamodule: SizedDataModule,
    protocol: EvaluationProtocol,
    *,
    name: str,
    autocast: Autocast,
    outputs: Sequence[int] | None = None,
    show_progress: bool = True,
) -> Evaluation:
    """Evaluates a network, and leaves it as it was.

    Of several ranks each looks at its part of the images; all return the same, except that rank 0 alone measures time.

    Args:
        net: images to logits, on the device of the datamodule's trainer.
        datamodule: attached to a trainer, which need not have trained.
        protocol: how.
        name: what messages call the network.
        autocast: makes the context of the run's precision.
        outputs: for each class of the data the network's output; None: they are the same.
        show_progress: progress bars with the current size.

    Raises:
        UserError: sizes that the network does not take, or no image of a split that can be read.
    """
    sizes, calibration = protocol.image_sizes, protocol.calibration
    trainer = datamodule.trainer
    assert trainer is not None
    show_progress = show_progress and trainer.is_global_zero
    costs = counted_costs(net, sizes, name=name)
    with autocast():
        statistics = size_statistics(
            net,
            datamodule.calibration_batches(
                *sizes,
                num_images=calibration.num_images,
                batch_size=calibration.batch_size,
                augment=calibration.transform == "train",
            ),
            show_progress=show_progress,
        )
        val, test = (
            predictions(
                net,
                datamodule.eval_batches(split, *sizes),
                image_sizes=sizes,
                statistics=statistics,
                image_digest=datamodule.image_digest(split),
                outputs=outputs,
                show_progress=show_progress,
            )
            for split in ("val", "test")
        )
    device = trainer.strategy.root_device
    if protocol.measure != "gflops" and trainer.is_global_zero:
        costs = measured_costs(
            net,
            costs,
            device=device,
            autocast=autocast,
            throughput=protocol.measure == "throughput",
            show_progress=show_progress,
        )
    bank = BatchNormBank(weights_digest(net), calibration, statistics)
    return Evaluation(protocol, test, val, bank, costs, _in_words(device))


def _in_words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
