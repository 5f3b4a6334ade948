"""Connects a data set and a size plan to Lightning."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.progress import _ProcessedTracker
from torch import Tensor

from sizemix.data.batches import Batch, InMemoryBatches
from sizemix.data.loader import EvalLoader, StepLoader
from sizemix.data.request import EvalRequest, Shard, TrainRequest, eval_requests
from sizemix.data.sources import ImageDataset, Split
from sizemix.errors import UserError
from sizemix.sizes.plan import SizePlan


class SizedDataModule(pl.LightningDataModule):
    """Serves every optimizer step a batch at the size its plan says.

    The SizeScheduler callback gives it the plan. On a CUDA device the images live there and are cropped, flipped and
    resized there; otherwise workers, or this process, do it.

    Args:
        dataset: images in memory.
        crop_padding: pixels padded before the random crop.
        flip: whether training mirrors half of the samples.
        val_size: image_size of validation during training, pixels.
        eval_batch_size: images of a validation or test batch.
        num_workers: loader processes for training batches.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        crop_padding: int,
        flip: bool,
        val_size: int,
        eval_batch_size: int = 250,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.val_size = val_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.plan: SizePlan | None = None
        self._augmentation = {"crop_padding": crop_padding, "flip": flip}
        self._train, self._val, self._test = (
            _in_memory(split, crop_padding=crop_padding, flip=flip)
            for split in (dataset.train, dataset.val, dataset.test)
        )
        self._train_loader: StepLoader | None = None

    @property
    def num_images(self) -> int:
        """Training images."""
        return self._train.num_images

    def use_plan(self, plan: SizePlan) -> None:
        """Takes the run's plan; before the training loader exists."""
        assert self._train_loader is None, "the plan came after the loader"
        self.plan = plan

    def setup(self, stage: str) -> None:
        """Moves the images to the training device where that is a CUDA device."""
        device = self._device
        if device.type == "cuda":
            self._train, self._val, self._test = (part.to(device) for part in (self._train, self._val, self._test))

    def train_dataloader(self) -> StepLoader:
        """One and the same loader in every epoch; Lightning asks again so that it sees the epoch's length."""
        if self._train_loader is None:
            assert self.plan is not None, "SizedDataModule needs the SizeScheduler callback, which gives it a plan"
            resident = self._device.type == "cuda"
            self._train_loader = StepLoader(
                self.plan,
                self._shard,
                fetch=_keep_request if resident else self._train.train,
                place=self._place,
                num_workers=0 if resident else self.num_workers,
            )
        return self._train_loader

    def val_dataloader(self) -> EvalLoader:
        """This rank's part of the validation images, at val_size."""
        requests = eval_requests(
            self._val.num_images, self._shard, image_size=self.val_size, batch_size=self.eval_batch_size
        )
        return EvalLoader(requests, fetch=self._val.eval)

    def test_batches(self, image_size: int) -> Iterator[Batch]:
        """All test images at a size, normalised, on the device."""
        requests = eval_requests(self._test.num_images, Shard(), image_size=image_size, batch_size=self.eval_batch_size)
        return (self._normalised(self._test.eval(request)) for request in requests)

    def calibration_batches(
        self, image_size: int, *, num_images: int, batch_size: int, augment: bool, seed: int = 0
    ) -> Iterator[Batch]:
        """The same training images for every size and every run: what batch norm is recalibrated with.

        Args:
            image_size: side in pixels.
            num_images: how many; the data set's, where it has fewer. A last short batch is left out, because the
                statistics are averaged over batches.
            batch_size: images of a batch.
            augment: with training augmentation (the paper's way) or as the test images are shown.
            seed: which images.
        """
        order = np.random.default_rng([seed, 2]).permutation(self._train.num_images)
        num_images = min(num_images, len(order))
        batch_size = min(batch_size, num_images)
        for at in range(0, num_images - batch_size + 1, batch_size):
            indices = order[at : at + batch_size]
            if augment:
                batch = self._train.train(TrainRequest(indices, np.zeros_like(indices), image_size, 1, seed, item=0))
            else:
                batch = self._train.eval(EvalRequest(indices, image_size))
            yield self._normalised(batch)

    def transfer_batch_to_device(self, batch: Batch | TrainRequest, device: torch.device, dataloader_idx: int) -> Batch:
        """Makes the batch here where its images live on the device, so that only the request had to travel."""
        return self._train.train(batch) if isinstance(batch, TrainRequest) else batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Bytes to normalised floats, on the device."""
        return self._normalised(batch)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must agree with."""
        assert self.plan is not None
        return {
            "plan": self.plan.fingerprint,
            "plan_inputs": self.plan.describe(),
            "data": self.dataset.fingerprint,
            "augmentation": self._augmentation,
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

    def _normalised(self, batch: Batch) -> Batch:
        mean, std = self._statistics
        images = batch.images.to(mean.device).expand(-1, 3, -1, -1).sub(mean).div(std)
        images = images.contiguous(memory_format=torch.channels_last)
        return replace(batch, images=images, targets=batch.targets.to(mean.device))

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of byte values, on the device: made once, as a copy would stall the step."""
        mean, std = (torch.tensor(values, device=self._device) for values in (self.dataset.mean, self.dataset.std))
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
    def _shard(self) -> Shard:
        trainer = self._trainer
        return Shard(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)


def _in_memory(split: Split, *, crop_padding: int, flip: bool) -> InMemoryBatches:
    return InMemoryBatches(split.images, split.targets, crop_padding=crop_padding, flip=flip)


def _keep_request(request: TrainRequest) -> TrainRequest:
    return request
