"""Carries out the checks, in an order in which each can build on others; imports torch, timm and Lightning."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from sizemix.data.sources import DataSource
from sizemix.diagnosis.finding import Finding, carried_out
from sizemix.diagnosis.images import check_images, check_loader, check_sides
from sizemix.diagnosis.machine import check_cores, check_gpus, check_memory
from sizemix.diagnosis.network import (
    check_network,
    check_sizes,
    check_speed,
    check_step_memory,
    check_test_memory,
)
from sizemix.diagnosis.recipe import check_recipe
from sizemix.diagnosis.run import check_disk, check_pace, check_plan
from sizemix.diagnosis.setting import Setting, look_at_setting
from sizemix.models.speed import StepSpeed
from sizemix.training.images import evaluated_batches

Section = tuple[str, list[Finding]]  # a heading, and what was found

_CLASSES = 1000  # of a network that is looked at without its images


def examine_machine(*, wants_gpu: bool) -> Section:
    """Cores, memory and GPUs."""
    found: list[Finding] = []
    carried_out(check_cores(), found, subject="CPU")
    carried_out(check_memory(), found, subject="memory")
    carried_out(check_gpus(wanted=wants_gpu), found, subject="GPU")
    return "Machine", found


def examine_run(config: DictConfig, *, runs: Path) -> Iterator[Section]:
    """All that depends on the configuration; a check is left out where it needs what another could not give.

    Args:
        config: the run's.
        runs: folder in which its folder would be made.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)

    of_setting, found, of_network = list[Finding](), list[Finding](), list[Finding]()
    dataset = carried_out(check_images(config), found, subject="images")
    num_classes = _CLASSES if dataset is None else len(dataset.class_names)
    net = carried_out(check_network(config, num_classes=num_classes), of_network, subject="network")
    setting = look_at_setting(config, dataset, net, of_setting)
    if net is not None:
        recipe = check_recipe(config, net, num_sizes=len(setting.schedule.image_sizes))
        carried_out(recipe, of_setting, subject="recipe")
    yield "Configuration", of_setting

    loader = None
    if dataset is not None:
        carried_out(check_sides(dataset, largest_size=max(setting.shapes)), found, subject="photos")
        loader = carried_out(check_loader(setting, dataset, net), found, subject="loader")
    yield "Images", found

    flops, speeds = ({}, None) if net is None else _look_at_network(setting, dataset, net, of_network)
    yield "Network", of_network

    found = []
    if loader is not None and flops.keys() >= {*setting.shapes, config.sizes.base_size}:
        carried_out(check_plan(setting, num_images=loader.num_images, cost=flops), found, subject="plan")
    if loader is not None and speeds is not None:
        carried_out(check_pace(loader, speeds), found, subject="pace")
    if net is not None:
        averaged = config.recipe.averaging_half_life is not None
        carried_out(check_disk(net, averaged=averaged, folder=runs), found, subject="disk")
    yield "Run", found


def _look_at_network(
    setting: Setting, dataset: DataSource | None, net: nn.Module, found: list[Finding]
) -> tuple[Mapping[int, float], Mapping[int, StepSpeed] | None]:
    """FLOPs of training on an image at every size that it takes; measured steps, where the largest fits into memory."""
    flops = carried_out(check_sizes(setting, net), found, subject="sizes") or {}
    evaluated = {size: number for size, number in evaluated_batches(setting.config, dataset).items() if size in flops}
    if evaluated:
        carried_out(check_test_memory(setting, net, evaluated), found, subject="evaluation")
    batches = {size: number for size, number in setting.local_images.items() if size in flops}
    if not batches or not carried_out(check_step_memory(setting, net, batches), found, subject="step"):
        return flops, None
    measured = {size: number for size, number in batches.items() if size in setting.measured_sizes}
    return flops, carried_out(check_speed(setting, net, measured, flops=flops), found, subject="speed")
