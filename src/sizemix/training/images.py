"""A run's images: its data set, with the splits that the run folder keeps, and the datamodule that serves it."""

import csv
import time
from collections.abc import Mapping

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from sizemix.data.appearance import appearance
from sizemix.data.datamodule import SizedDataModule
from sizemix.data.folder import BrokenFilesError
from sizemix.data.mixing import Mixing
from sizemix.data.photo_sets import PhotoDataset
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.sources import DataSource
from sizemix.data.splits import write_split
from sizemix.errors import UserError
from sizemix.limits import available_cores
from sizemix.runs.folder import RunFolder
from sizemix.runs.tables import write_csv
from sizemix.training.instantiate import instantiate, plain
from sizemix.training.plan_inputs import num_devices, source_settings

_SECONDS_FOR_RANK_ZERO = 3600


def open_dataset(config: DictConfig, folder: RunFolder) -> DataSource:
    """The data set; files are looked at and split once a run, by rank 0, and found in split.csv afterwards.

    Raises:
        UserError: what the source says of the user's data.
    """
    settings = source_settings(config)
    if "split_file" in settings:
        _wait_for_rank_zero(folder)
        if folder.split_csv.exists():
            settings.split_file = str(folder.split_csv)
    try:
        dataset: DataSource = instantiate(settings, "data")
    except BrokenFilesError as error:
        _write_broken(error.broken, folder)
        raise UserError(f"{error} All of them are listed in {folder.broken_csv}.") from error
    if isinstance(dataset, PhotoDataset) and not folder.split_csv.exists():
        if dataset.broken:
            _write_broken(dataset.broken, folder)
            print(f"Left out {len(dataset.broken)} broken files, listed in {folder.broken_csv}")
        write_split(dataset.files, folder.split_csv)
    return dataset


def serve(config: DictConfig, dataset: DataSource, preprocessing: Preprocessing) -> SizedDataModule:
    """The datamodule.

    Raises:
        UserError: an augmentation that is out of range.
    """
    augment = config.augment
    return SizedDataModule(
        dataset,
        val_size=config.evaluation.val_size,
        flip=augment.flip,
        appearance=appearance(
            rand_augment=None if augment.rand_augment is None else plain(augment.rand_augment),
            color_jitter=augment.color_jitter,
        ),
        mixing=Mixing(
            erasing=augment.erasing,
            mixup=augment.mixup,
            cutmix=augment.cutmix,
            rescale=tuple(augment.rescale or ()),
            rescale_shares=tuple(augment.rescale_shares or ()),
        ),
        oversample=config.training.imbalance == "oversample",
        preprocessing=preprocessing,
        eval_batch_size=config.evaluation.batch_size,
        num_workers=_num_workers(config),
    )


def evaluated_batches(config: DictConfig, dataset: DataSource | None) -> dict[int, int]:
    """The largest batch of validation, test and recalibration at every size that they show, in images by image_size.

    Args:
        config: the run's.
        dataset: None: it could not be opened, and may have any number of images.
    """
    settings = config.evaluation
    batch_size = settings.batch_size
    if dataset is not None:
        batch_size = min(batch_size, max(len(split.targets) for split in (dataset.val, dataset.test)))
    largest = max(batch_size, min(config.recipe.base_batch_size, settings.calibration_images))
    return dict.fromkeys(sorted({settings.val_size, *settings.eval_sizes}), largest)


def broken_files(folder: RunFolder) -> int:
    """How many files were left out before training."""
    if not folder.broken_csv.exists():
        return 0
    with folder.broken_csv.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return sum(1 for _ in csv.DictReader(file))


def _num_workers(config: DictConfig) -> int:
    if config.data.num_workers != "auto":
        return int(config.data.num_workers)
    return max(1, int(available_cores()) // num_devices(config))


def _wait_for_rank_zero(folder: RunFolder) -> None:
    """Returns when there is a split, or at once on rank 0, which makes it."""
    deadline = time.monotonic() + _SECONDS_FOR_RANK_ZERO
    while rank_before_training() and not folder.split_csv.exists():
        if time.monotonic() > deadline:
            raise UserError(f"expected {folder.split_csv} from rank 0 within an hour; see what rank 0 says.")
        time.sleep(0.2)


def rank_before_training() -> int:
    """Before there is a process group: Lightning reads the launcher's environment variables."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]
    return rank


def _write_broken(broken: Mapping[str, str], folder: RunFolder) -> None:
    write_csv(folder.broken_csv, ["path", "reason"], broken.items())
