"""What a run would spend, found out without starting it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

from sizemix.sizes.budget import MEMORY
from sizemix.sizes.plan import SizePlan, plan_run
from sizemix.sizes.schedule import SizeSchedule
from sizemix.sizes.spending import MeasuredStep
from sizemix.training.cost_cache import CostBySize, cached_costs
from sizemix.training.instantiate import NOT_THE_ARCHITECTURE, TIMM, instantiate, plain, without
from sizemix.training.matching import local_images_of, with_matched_length
from sizemix.training.plan_inputs import Images, num_shards, plan_settings, size_schedule

# Imports of torch, timm and Lightning stand inside functions: a plan whose costs are known needs none of the last two.


@dataclass(frozen=True)
class Forecast:
    """What a run would spend.

    Attributes:
        plan: every step; its costs are training FLOPs.
        measured: a step of each size on this machine's device; None where that was not asked for.
    """

    plan: SizePlan
    measured: Mapping[int, MeasuredStep] | None


def forecast(config: DictConfig, images: Images, *, probe: bool) -> Forecast:
    """Plans the run; builds the network only where its costs are not known yet, or steps are to be measured.

    Args:
        config: the run's.
        images: counted, or what the user says.
        probe: whether to measure steps on the run's device, which takes seconds for each size on a GPU.

    Raises:
        UserError: anything in the configuration that does not fit, or no memory for the largest step.
    """

    def costs(image_sizes: Iterable[int]) -> Mapping[int, float]:
        return _costs(config, image_sizes, num_classes=images.num_classes)

    cost = CostBySize(costs({*size_schedule(config).image_sizes, config.sizes.base_size}), measure=costs)

    def measured(local_images: Mapping[int, int]) -> Mapping[int, MeasuredStep]:
        return _measured(config, local_images, flops=cost, num_classes=images.num_classes)

    def step_seconds(local_images: Mapping[int, int]) -> dict[int, float]:
        return {size: step.seconds for size, step in measured(local_images).items()}

    config = with_matched_length(config, num_images=images.num_images, cost=cost, step_seconds=step_seconds)
    schedule = size_schedule(config)
    plan = plan_run(
        schedule,
        **plan_settings(config),
        num_images=images.num_images,
        num_epochs=config.trainer.max_epochs,
        num_shards=num_shards(config),
        cost=cost,
        fitting=_fitting(config, schedule, images) if config.sizes.budget == MEMORY else None,
    )
    return Forecast(plan, measured(local_images_of(plan)) if probe else None)


def _costs(config: DictConfig, image_sizes: Iterable[int], *, num_classes: int) -> Mapping[int, float]:
    def measure(missing: list[int]) -> dict[int, float]:
        from sizemix.models.backbone import check_logits, training_flops

        ours = config.model._target_ == TIMM
        settings = without(config.model, *NOT_THE_ARCHITECTURE) if ours else without(config.model, "compile")
        net = instantiate(settings, "model", num_classes=num_classes)
        name = config.model.get("name", config.model._target_)
        cost = training_flops(net, missing, name=name)
        check_logits(net, missing[0], num_classes=num_classes, name=name)
        return cost

    if config.model._target_ != TIMM:  # a user's own code may change behind the same name
        return measure(sorted(image_sizes))
    architecture = {**plain(without(config.model, *NOT_THE_ARCHITECTURE)), "num_classes": num_classes}
    return cached_costs(architecture, image_sizes, measure=measure)


def _fitting(config: DictConfig, schedule: SizeSchedule, images: Images) -> Mapping[int, int]:
    from sizemix.callbacks.fitting_batches import FittingBatches
    from sizemix.training.assembly import idle_trainer, trainable_network

    net, trainer = trainable_network(config, num_classes=images.num_classes), idle_trainer(config)
    return FittingBatches(net)(trainer, image_sizes=schedule.image_sizes, num_images=images.num_images)


def _measured(
    config: DictConfig, local_images: Mapping[int, int], *, flops: Mapping[int, float], num_classes: int
) -> Mapping[int, MeasuredStep]:
    from sizemix.training.assembly import idle_trainer, trainable_network
    from sizemix.training.measured_steps import steps_on_device

    return steps_on_device(
        trainable_network(config, num_classes=num_classes),
        idle_trainer(config),
        local_images=local_images,
        micro_batches=config.trainer.accumulate_grad_batches,
        flops=flops,
    )
