"""Looks at what images and network make together: the plan, their pace, what checkpoints take."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from sizemix.diagnosis.finding import Check, Finding
from sizemix.diagnosis.images import Loader
from sizemix.diagnosis.machine import in_gib
from sizemix.diagnosis.rates import rate
from sizemix.diagnosis.setting import Setting
from sizemix.limits import available_cores
from sizemix.models.memory import optimizer_bytes
from sizemix.models.speed import StepSpeed
from sizemix.sizes.plan import plan_sizes
from sizemix.training.matching import with_matched_length
from sizemix.training.plan_inputs import size_schedule

_CHECKPOINTS = 4  # last, previous, best, and the one that is being written


def check_plan(setting: Setting, *, num_images: int, cost: Mapping[int, float]) -> Check[None]:
    """Plans the run as training does, from the images of a pass and the cost of each size."""
    config, later = setting.config, ""
    if config.match == "time":
        later = ", before match=time changes the length by what the run measures when it starts"
    else:
        config = with_matched_length(config, num_images=num_images, cost=cost, step_seconds=dict)
    plan = plan_sizes(
        size_schedule(config),
        shapes=setting.shapes,
        num_images=num_images,
        num_epochs=config.trainer.max_epochs,
        seed=config.seed,
        base_size=config.sizes.base_size,
        num_shards=setting.num_shards,
        share_of=config.sizes.share_of,
        cost=cost,
        last_epoch=config.training.last_epoch,
    )
    epochs = f"{plan.num_epochs} epoch{'' if plan.num_epochs == 1 else 's'}"
    yield Finding("plan", f"{epochs}, {plan.num_steps:,} steps, {plan.images_seen:,} images{later}")


def check_pace(loader: Loader, speeds: Mapping[int, StepSpeed]) -> Check[None]:
    """Whether the network would wait for images, by the measured steps at some sizes."""
    rates = {size: (loader.images_per_second[size], speed.images_per_second) for size, speed in speeds.items()}
    late = [f"{rate(has)} of {rate(wants)} at {size} px" for size, (has, wants) in rates.items() if has < wants]
    if not late:
        yield Finding("pace", "images come faster than the network takes them")
        return
    cores = available_cores()
    if loader.num_workers < int(cores):
        remedy = f"raise data.num_workers, as there are {cores:g} CPU cores."
    else:
        remedy = (
            "keep the photos in a pack (sizemix pack), as decoding takes most of the time; let copies share a decoding "
            "by sizes.budget=D+; or use more CPU cores."
        )
    text = f"the network waits for images, images/s: {', '.join(late)}"
    yield Finding("pace", text, "warning", f"expected a loader as fast as the network; {remedy}")


def check_disk(net: nn.Module, *, averaged: bool, folder: Path) -> Check[None]:
    """Whether a run's checkpoints fit onto the disk.

    Args:
        net: the network.
        averaged: whether averaged weights are kept beside its own.
        folder: where runs are written; it need not exist yet.
    """
    weights = sum(_size(tensor) for tensor in (*net.parameters(), *net.buffers()))
    needed = _CHECKPOINTS * ((2 if averaged else 1) * weights + optimizer_bytes(net))
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    remedy = None
    if needed > free:
        remedy = (
            f"expected {in_gib(needed)} of free disk, got {in_gib(free)}; free some, or set hydra.run.dir elsewhere."
        )
    text = f"{in_gib(free)} free for {folder}/; a run's checkpoints take about {in_gib(needed)}"
    yield Finding("disk", text, "problem" if remedy else "ok", remedy)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
