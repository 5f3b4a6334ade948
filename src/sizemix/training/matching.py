"""Gives a run the length at which it spends what training at one size would: see option `match`."""

import csv
import time
from collections.abc import Callable, Mapping
from functools import partial

from omegaconf import DictConfig

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.runs.tables import write_csv
from sizemix.sizes.budget import MEMORY
from sizemix.sizes.matching import Length, amount, matched_length
from sizemix.sizes.plan import SizePlan, plan_run
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.instantiate import plain
from sizemix.training.plan_inputs import num_shards, plan_settings, size_schedule

# From the images of a step on one device (in a micro-batch, copies counted) to the seconds of the whole step, by size.
StepSeconds = Callable[[Mapping[int, int]], Mapping[int, float]]


def with_matched_length(
    config: DictConfig, *, num_images: int, cost: Mapping[int, float], step_seconds: StepSeconds
) -> DictConfig:
    """The configuration with epochs such that the run spends what sizes.base_size alone would in trainer.max_epochs.

    Args:
        config: the run's; left as it is.
        num_images: of a pass.
        cost: training cost of an image, by size; the base size is among them.
        step_seconds: measures steps; asked with match=time alone.

    Raises:
        UserError: a match that the budget does not allow.
    """
    if config.match == "images" and config.length_factor == 1:  # which trainer.max_epochs counts anyway
        return config
    if config.training.last_epoch != 1:
        raise UserError(
            f"training.last_epoch: expected 1 where match or length_factor sets it, got {config.training.last_epoch}; "
            "leave one of them out."
        )
    if config.sizes.budget == MEMORY:
        raise UserError(
            "match: expected images, and length_factor 1, with sizes.budget=memory, whose batches are known too late, "
            f"got {config.match} and {config.length_factor:g}; choose another budget."
        )
    plan_of = partial(_plan_named, config, num_images=num_images, cost=cost)
    baseline = _baseline(config, num_images=num_images, cost=cost)
    as_it_is = plan_of(Length(config.trainer.max_epochs, 1.0))
    seconds = step_seconds(local_images_of(as_it_is) | local_images_of(baseline)) if config.match == "time" else None

    def amount_of(plan: SizePlan) -> float:
        if seconds is not None and not seconds.keys() >= set(plan.image_sizes):
            raise UserError(
                "match: expected a schedule of the same sizes at every length with time, which is measured before, got "
                f"{config.sizes._target_}; match compute."
            )
        return amount(plan, config.match, seconds=seconds)

    largest = max(shape.global_batch_size for shape in as_it_is.inputs.shapes.values())
    length = matched_length(
        plan_of,
        target=config.length_factor * amount_of(baseline),
        amount_of=amount_of,
        num_epochs=config.trainer.max_epochs,
        least_part=min(1.0, 2 * largest / num_images),
    )
    return _of_length(config, length)


def kept_step_seconds(measure: StepSeconds, folder: RunFolder, *, rank: int) -> StepSeconds:
    """Measured once a run, by rank 0: all ranks and resumed processes need the same plan."""

    def step_seconds(local_images: Mapping[int, int]) -> Mapping[int, float]:
        file = folder.step_seconds_csv
        if rank == 0 and not file.exists():
            measured = measure(local_images)
            write_csv(file, ("image_size", "seconds"), measured.items())
        while not file.exists():  # the lifeline ends this process if rank 0 ends
            time.sleep(0.2)
        with file.open(newline="") as rows:
            return {int(row["image_size"]): float(row["seconds"]) for row in csv.DictReader(rows)}

    return step_seconds


def local_images_of(plan: SizePlan) -> dict[int, int]:
    """Images of a local micro-batch, copies counted, by image_size."""
    shapes, shards = plan.inputs.shapes, plan.inputs.num_shards
    return {size: shape.global_batch_size * shape.num_repeats // shards for size, shape in shapes.items()}


def _plan_named(config: DictConfig, length: Length, *, num_images: int, cost: Mapping[int, float]) -> SizePlan:
    """The plan at a length; what does not fit there is said as the doing of match."""
    try:
        return _plan(config, length, num_images=num_images, cost=cost)
    except UserError as error:
        if length.num_epochs == config.trainer.max_epochs:
            raise
        raise UserError(
            f"match: with {config.match} the run would have {length.num_epochs} epochs, for which: {error}"
        ) from error


def _plan(config: DictConfig, length: Length, *, num_images: int, cost: Mapping[int, float]) -> SizePlan:
    at_length = _of_length(config, length)
    return plan_run(
        size_schedule(at_length),
        **plan_settings(at_length),
        num_images=num_images,
        num_epochs=length.num_epochs,
        num_shards=num_shards(config),
        cost=cost,
    )


def _baseline(config: DictConfig, *, num_images: int, cost: Mapping[int, float]) -> SizePlan:
    """Training at the base size alone."""
    settings = plan_settings(config) | {"budget": "constant", "last_epoch": 1.0}
    return plan_run(
        MixedSizes((config.sizes.base_size,), (1.0,)),
        **settings,
        num_images=num_images,
        num_epochs=config.trainer.max_epochs,
        num_shards=num_shards(config),
        cost=cost,
    )


def _of_length(config: DictConfig, length: Length) -> DictConfig:
    changed = DictConfig(plain(config))
    if "num_epochs" in changed.sizes:  # of a schedule that stretches with the run
        changed.sizes.num_epochs = length.num_epochs
    changed.trainer.max_epochs = length.num_epochs
    changed.training.last_epoch = length.last_epoch
    return changed
