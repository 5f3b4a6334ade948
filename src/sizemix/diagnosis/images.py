"""Looks at the configured images: what there is of them, and how fast training batches come."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from statistics import median

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from sizemix.data.datamodule import SizedDataModule
from sizemix.data.photo_sets import PhotoDataset, PhotoSplit
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.sources import DataSource, LabelledSplit
from sizemix.diagnosis.finding import Check, Finding
from sizemix.diagnosis.rates import is_slow, told
from sizemix.diagnosis.setting import Setting
from sizemix.limits import available_cores
from sizemix.models.backbone import preprocessing_of
from sizemix.sizes.budget import StepShape
from sizemix.sizes.plan import plan_sizes
from sizemix.sizes.schedule import MixedSizes
from sizemix.training.images import serve
from sizemix.training.instantiate import instantiate
from sizemix.training.plan_inputs import source_settings

_UNEVEN = 10  # the largest class over the smallest, from which on a warning is due
_PHOTOS_IN_A_SAMPLE = 200
_SECONDS_A_SIZE = 1.0
_FEW_IMAGES = 100
_ANY = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MOST_IMAGES = 16  # of a measured batch: of large photos, a whole one may take a worker many seconds


def check_images(config: DictConfig) -> Check[DataSource]:
    """Opens the data set as training does, which reads every file's header, and counts."""
    dataset: DataSource = instantiate(source_settings(config), "data")
    splits = {"training": dataset.train, "validation": dataset.val, "the test": dataset.test}
    numbers = ", ".join(f"{len(split.targets):,} for {purpose}" for purpose, split in splits.items())
    few, remedy = len(dataset.val.targets), None
    if few < _FEW_IMAGES:
        least = 100 * 3 / few if few else 100  # of images that both get right: the rule of three
        remedy = (
            f"expected {_FEW_IMAGES} validation images or more, which choose the size to deploy, got {few}: they show "
            f"no difference under {least:.0f} points; hold out more, as by data.val_fraction."
        )
    yield Finding("images", f"{dataset.name}: {numbers}", "warning" if remedy else "ok", remedy)
    if isinstance(dataset, PhotoDataset) and dataset.broken:
        path, reason = next(iter(dataset.broken.items()))
        remedy = f"mend or remove the broken files, such as {path} ({reason}); training leaves them out."
        yield Finding("files", f"{len(dataset.broken)} cannot be read", "warning", remedy)
    yield _balance(dataset.class_names, _by_class(dataset, dataset.train), config.training.imbalance)
    for purpose, split in splits.items():
        numbered = zip(dataset.class_names, _by_class(dataset, split), strict=True)
        missing = [name for name, number in numbered if not number]
        if missing:
            remedy = f"expected images of every class for {purpose}, got none of {', '.join(missing[:5])}; add some."
            yield Finding("classes", f"{len(missing)} without an image for {purpose}", "warning", remedy)
    return dataset


def _by_class(dataset: DataSource, split: LabelledSplit) -> list[int]:
    numbers: list[int] = torch.bincount(split.targets, minlength=len(dataset.class_names)).tolist()
    return numbers


def _balance(names: tuple[str, ...], numbers: list[int], imbalance: str | None) -> Finding:
    """The first of the smallest classes, and of the largest."""
    (smallest, few), *_, (largest, many) = sorted(zip(names, numbers, strict=True), key=lambda one: one[1])
    spread = f"{few:,} ({smallest}) to {many:,} ({largest})" if few < many else f"{few:,}"
    text = f"{len(names)}, of {spread} training images each"
    if imbalance is not None or many < _UNEVEN * few:
        return Finding("classes", text)
    remedy = "let the small classes count as much: training.imbalance=class_weights, or oversample."
    return Finding("classes", text, "warning", remedy)


def check_sides(dataset: DataSource, *, largest_size: int) -> Check[None]:
    """The short sides of a sample of photos, against the largest training size in pixels; nothing of other data."""
    if not isinstance(dataset.train, PhotoSplit):
        return
    photos = dataset.train.photos
    sampled = range(0, len(photos), -(-len(photos) // _PHOTOS_IN_A_SAMPLE))
    sides = sorted(min(photos.size(index)) for index in sampled)
    text = f"short side {sides[0]} to {sides[-1]} px, median {median(sides):g} px, of {len(sides)} photos"
    if median(sides) >= largest_size:
        yield Finding("photos", text)
    else:
        remedy = (
            f"most photos are smaller than {largest_size} px, the largest training size, and would be enlarged: set "
            f"smaller sizes.image_sizes, or data.base_size."
        )
        yield Finding("photos", text, "warning", remedy)


@dataclass(frozen=True)
class Loader:
    """How images come.

    Attributes:
        num_images: training images of a pass.
        num_workers: threads on this machine that read them, those of all its devices.
        images_per_second: on one device by image_size, copies counted.
    """

    num_images: int
    num_workers: int
    images_per_second: Mapping[int, float]


def check_loader(setting: Setting, dataset: DataSource, net: nn.Module | None) -> Check[Loader]:
    """Measures how fast training images come; where there is no network, photos are resized in some way or other."""
    config, speeds = setting.config, dict[int, float]()
    shown = dataset.preprocessing or (_ANY if net is None else preprocessing_of(net))
    datamodule = serve(config, dataset, shown)
    for size in tqdm(setting.measured_sizes, desc="Measuring the loader", unit="size", leave=False, disable=None):
        speeds[size] = loading_speed(
            serve(config, dataset, shown),
            size,
            setting.shapes[size],
            trainer=setting.trainer,
            seconds=_SECONDS_A_SIZE,
        )
    remedy = None
    if is_slow(speeds):
        remedy = "expected more than an image a second; raise data.num_workers, or keep the photos in smaller files."
    yield Finding("loader", f"images/s: {told(speeds)}", "warning" if remedy else "ok", remedy)
    num_workers, cores = datamodule.num_workers * setting.trainer.num_devices, available_cores()
    remedy = None
    if num_workers > cores:
        remedy = f"expected no more threads that read images than CPU cores; set data.num_workers={max(1, int(cores))}."
    text = f"{num_workers} threads read images" if num_workers else "none, the training thread reads images"
    yield Finding("workers", text, "warning" if remedy else "ok", remedy)
    return Loader(datamodule.num_images, num_workers, speeds)


def loading_speed(
    datamodule: SizedDataModule,
    image_size: int,
    shape: StepShape,
    *,
    trainer: pl.Trainer,
    seconds: float,
) -> float:
    """Images a second, copies counted, that come onto the device and are normalised there, while nothing trains.

    Args:
        datamodule: without a plan so far.
        image_size: side in pixels.
        shape: what a step holds; the measured batches hold at most 16 source images.
        trainer: never started; knows the device and the shards.
        seconds: how long to measure, once every thread has begun.
    """
    shards = trainer.world_size * trainer.accumulate_grad_batches
    local_batch_size = min(shape.global_batch_size // shards, _MOST_IMAGES)
    datamodule.trainer = trainer
    datamodule.use_plan(
        plan_sizes(
            MixedSizes((image_size,), (1.0,)),
            shapes={image_size: StepShape(local_batch_size * shards, shape.num_repeats)},
            num_images=datamodule.num_images,
            num_epochs=1,
            seed=0,
            base_size=image_size,
        )
    )
    datamodule.setup("fit")
    loader, device = datamodule.train_dataloader(), trainer.strategy.root_device
    items = (item for _ in repeat(None) for item in loader)  # the epoch again and again

    def serve_next() -> int:
        batch = datamodule.on_after_batch_transfer(datamodule.transfer_batch_to_device(next(items), device, 0), 0)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return len(batch.images)

    for _ in range(max(1, datamodule.num_workers)):
        serve_next()
    num_images, start = 0, time.perf_counter()
    while not num_images or time.perf_counter() - start < seconds:
        num_images += serve_next()
    speed = num_images / (time.perf_counter() - start)
    items.close()
    datamodule.teardown("fit")
    return speed
