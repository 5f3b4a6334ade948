"""Connects a data set and a size plan to Lightning."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loops.progress import _ProcessedTracker
from torch import Tensor

from sizemix.data.appearance import Appearance
from sizemix.data.balance import Oversampled
from sizemix.data.batches import Batch, BatchSource, InMemoryBatches
from sizemix.data.loader import RequestLoader, SizesLoader, StepLoader
from sizemix.data.mixing import Mixing
from sizemix.data.preprocessing import Preprocessing
from sizemix.data.request import EvalRequest, Shard, TrainRequest, eval_requests
from sizemix.data.sources import DataSource
from sizemix.errors import UserError
from sizemix.sizes.plan import SizePlan

EvalSplit = Literal["val", "test"]
_NO_CHANGE, _NO_MIXING = Appearance(), Mixing()


class SizedDataModule(pl.LightningDataModule):
    """Serves every optimizer step a batch at the size its plan says.

    The SizeScheduler callback gives it the plan. On a CUDA device images held in memory live there and are cropped,
    flipped and resized there, unless their appearance changes, sample by sample; otherwise threads of this process do
    it, or the training thread.

    Args:
        dataset: the images.
        val_size: image_size of validation during training, pixels.
        flip: whether training mirrors half of the samples.
        appearance: what else training does to a sample.
        mixing: what training does to a batch, on the device.
        oversample: whether the rarer classes come as often as the largest.
        preprocessing: of a pretrained network; None: the data set's own.
        eval_batch_size: images of a validation or test batch.
        num_workers: threads that make batches; 0: the training thread does.

    Attributes:
        unreadable: files that could not be read during the run and were replaced by others of their class.
    """

    def __init__(
        self,
        dataset: DataSource,
        *,
        val_size: int,
        flip: bool = True,
        appearance: Appearance = _NO_CHANGE,
        mixing: Mixing = _NO_MIXING,
        oversample: bool = False,
        preprocessing: Preprocessing | None = None,
        eval_batch_size: int = 250,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        preprocessing = preprocessing or dataset.preprocessing
        assert preprocessing is not None, "files on disk have no statistics of their own: give the network's"
        self.dataset = dataset
        self.preprocessing = preprocessing
        self.val_size = val_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.plan: SizePlan | None = None
        self.unreadable: set[str] = set()
        self._mixing = mixing
        self._changes_samples = appearance.changes_samples
        self._augmentation = {
            "flip": flip,
            "appearance": asdict(appearance),
            "mixing": asdict(mixing),
            "oversample": oversample,
        }
        self._train, self._val, self._test = (
            split.batches(appearance=appearance, flip=flip, preprocessing=preprocessing)
            for split in (dataset.train, dataset.val, dataset.test)
        )
        self._served = self._in_a_pass()
        self._train_loader: StepLoader | None = None

    @property
    def num_images(self) -> int:
        """Training images of a pass."""
        return self._served.num_images

    def use_plan(self, plan: SizePlan) -> None:
        """Takes the run's plan; before the training loader exists."""
        assert self._train_loader is None, "the plan came after the loader"
        self.plan = plan

    def setup(self, stage: str) -> None:
        """Moves images held in memory to where batches are made of them: the training device if that is a CUDA device.

        Raises:
            UserError: fewer validation images than processes.
        """
        world_size = self._trainer.world_size
        if self._val.num_images < world_size:
            raise UserError(
                f"expected a validation image for each of {world_size} processes, got {self._val.num_images}; hold out "
                "more, or train on fewer devices."
            )
        vars(self).pop("_statistics", None)  # an earlier trainer's, perhaps of another device
        home = self._device if self._resident else torch.device("cpu")
        self._train, self._val, self._test = (
            part.to(home) if isinstance(part, InMemoryBatches) else part
            for part in (self._train, self._val, self._test)
        )
        self._served = self._in_a_pass()

    def teardown(self, stage: str) -> None:
        """Lets go of the training loader, so that a further fit may bring a plan of its own."""
        self._train_loader = None

    def train_dataloader(self) -> StepLoader:
        """One and the same loader in every epoch; Lightning asks again so that it sees the epoch's length."""
        if self._train_loader is None:
            assert self.plan is not None, "SizedDataModule needs the SizeScheduler callback, which gives it a plan"
            self._train_loader = StepLoader(
                self.plan,
                self._shard,
                fetch=_keep_request if self._resident else self._on_the_way(self._served.train),
                place=self._place,
                num_workers=self._num_workers,
            )
        return self._train_loader

    def val_dataloader(self) -> RequestLoader:
        """This rank's part of the validation images, at val_size."""
        requests = eval_requests(
            self._val.num_images, self._shard, image_size=self.val_size, batch_size=self.eval_batch_size
        )
        fetch = self._val.eval if self._resident else self._on_the_way(self._val.eval)
        return RequestLoader(requests, fetch=fetch, num_workers=self._num_workers)

    def eval_batches(self, split: EvalSplit, *image_sizes: int) -> SizesLoader:
        """A split's images at some sizes, normalised, on the device; a batch is read once for all of them.

        Of several ranks each gets its part of the batches.
        """
        source = {"val": self._val, "test": self._test}[split]
        mine = np.arange(source.num_images)
        parts = [mine[at : at + self.eval_batch_size] for at in range(0, len(mine), self.eval_batch_size)]
        return self._at_sizes(source, parts, lambda part, size: EvalRequest(part, size), image_sizes)

    def image_digest(self, split: EvalSplit) -> str:
        """The same for the same images in the same order."""
        part = {"val": self.dataset.val, "test": self.dataset.test}[split]
        return part.fingerprint

    def calibration_batches(
        self, *image_sizes: int, num_images: int, batch_size: int, augment: bool, seed: int = 0
    ) -> SizesLoader:
        """The same training images for every size and every run: what batch norm is recalibrated with.

        Of several ranks each gets its part of the batches.

        Args:
            image_sizes: sides in pixels.
            num_images: how many; the data set's, where it has fewer. A last short batch is left out, because the
                statistics are averaged over batches.
            batch_size: images of a batch.
            augment: with training augmentation (the paper's way) or as the test images are shown.
            seed: which images.
        """
        order = np.random.default_rng([seed, 2]).permutation(self._train.num_images)
        num_images = min(num_images, len(order))
        batch_size = min(batch_size, num_images)
        parts = [order[at : at + batch_size] for at in range(0, num_images - batch_size + 1, batch_size)]

        def asked(part: NDArray[np.int64], size: int) -> TrainRequest | EvalRequest:
            return (
                TrainRequest(part, np.zeros_like(part), size, 1, seed, item=0) if augment else EvalRequest(part, size)
            )

        return self._at_sizes(self._train, parts, asked, image_sizes)

    def transfer_batch_to_device(self, batch: Batch | TrainRequest, device: torch.device, dataloader_idx: int) -> Batch:
        """Makes the batch here where its images live on the device, so that only the request had to travel."""
        return self._served.train(batch) if isinstance(batch, TrainRequest) else batch.to(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bytes to normalised floats, on the device; a training batch is mixed there."""
        self.unreadable.update(batch.unreadable)
        batch = self._normalised(batch)
        if batch.item is None:
            return batch
        assert self.plan is not None
        seed = (self.plan.inputs.seed, 5, self._trainer.global_rank, batch.item)
        return self._mixing(batch, num_classes=len(self.dataset.class_names), seed=seed)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must agree with."""
        assert self.plan is not None
        return {
            "plan": self.plan.fingerprint,
            "plan_inputs": self.plan.describe(),
            "data": self.dataset.fingerprint,
            "augmentation": self._augmentation,
            "unreadable": sorted(self.unreadable),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuses a checkpoint of another plan or of other data.

        Raises:
            UserError: names what differs.
        """
        ours = self.state_dict()
        if state_dict["data"] != ours["data"]:
            raise UserError(
                "the checkpoint was trained on other images than this run has (their contents differ); "
                "restore the data, or start a new run."
            )
        if state_dict["augmentation"] != ours["augmentation"]:
            raise UserError(
                f"the checkpoint was trained with {state_dict['augmentation']}, this run has {ours['augmentation']}; "
                "start a new run."
            )
        if state_dict["plan"] != ours["plan"]:
            then, now = state_dict["plan_inputs"], ours["plan_inputs"]
            differing = sorted(name for name in now if now[name] != then.get(name)) or ["the order of steps and images"]
            first = differing[0]
            raise UserError(
                f"the checkpoint follows another size plan ({', '.join(differing)} differ"
                f"{f': {then.get(first)} then, {now.get(first)} now' if first in now else ''}); start a new run."
            )
        self.unreadable = set(state_dict["unreadable"])

    def _in_a_pass(self) -> BatchSource:
        if not self._augmentation["oversample"]:
            return self._train
        return Oversampled(self._train, self.dataset.train.targets, seed=0)

    def _at_sizes(
        self,
        source: BatchSource,
        batches: Sequence[NDArray[np.int64]],
        asked: Callable[[NDArray[np.int64], int], TrainRequest | EvalRequest],
        image_sizes: Sequence[int],
    ) -> SizesLoader:
        return SizesLoader(
            batches[self._shard.rank :: self._shard.world_size],
            image_sizes,
            asked=asked,
            fetch=self._on_the_way_at_sizes(source.at_sizes),
            ready=self._ready,
            num_workers=self._num_workers,
        )

    def _ready(self, batch: Batch) -> Batch:
        self.unreadable.update(batch.unreadable)
        return self._normalised(batch.to(self._device))

    def _normalised(self, batch: Batch) -> Batch:
        mean, std = self._statistics
        images = batch.images.expand(-1, 3, -1, -1).sub(mean).div(std)
        return replace(batch, images=images.contiguous(memory_format=torch.channels_last))

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of byte values, on the device: made once, as a copy would stall the step."""
        mean, std = (
            torch.tensor(values, device=self._device) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return mean.view(1, 3, 1, 1) * 255, std.view(1, 3, 1, 1) * 255

    def _place(self) -> tuple[int, int]:
        loop = self._trainer.fit_loop
        progress = loop.epoch_progress.current
        assert isinstance(progress, _ProcessedTracker)
        return progress.processed, loop.batch_idx + 1

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "SizedDataModule works inside a Trainer"
        return self.trainer

    @property
    def _device(self) -> torch.device:
        return self._trainer.strategy.root_device

    @property
    def _resident(self) -> bool:
        on_device = self._device.type == "cuda" and isinstance(self._train, InMemoryBatches)
        return on_device and not self._changes_samples

    def _on_the_way(self, fetch: Callable[[Any], Batch]) -> Callable[[Any], Batch]:
        """Puts batches where a GPU fetches them by itself, while the training thread goes on."""
        return (lambda request: fetch(request).pinned()) if self._device.type == "cuda" else fetch

    def _on_the_way_at_sizes(self, fetch: Callable[[Any], list[Batch]]) -> Callable[[Any], list[Batch]]:
        if self._device.type != "cuda" or self._resident:
            return fetch
        return lambda requests: [batch.pinned() for batch in fetch(requests)]

    @property
    def _num_workers(self) -> int:
        return 0 if self._resident else self.num_workers

    @property
    def _shard(self) -> Shard:
        trainer = self._trainer
        return Shard(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)


def _keep_request(request: TrainRequest) -> TrainRequest:
    return request
