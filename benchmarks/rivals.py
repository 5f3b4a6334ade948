"""What our training is measured against: a bare torch loop, timm's training task and timm's scheduled loader."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from timm.data import ScheduledBatchSampler, create_loader
from timm.task import ClassificationTask
from torch.nn import functional as F
from watched_runs import HALF, Setting, configuration, now

from sizemix.training.assembly import trainable_network
from sizemix.training.instantiate import plain
from sizemix.training.optim import build_optimizer

Step = Callable[[torch.Tensor, torch.Tensor], None]
Batches = Sequence[tuple[torch.Tensor, torch.Tensor]]


def bare_step(setting: Setting, *, cuda_graphs: bool = False) -> Step:
    """Zero, forward, backward, step; nothing is looked at."""
    net, optimizer = network(setting)
    if cuda_graphs:
        net.compile(dynamic=False, mode="reduce-overhead")

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        with setting.autocast():
            loss = F.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()

    return step


def timm_step(setting: Setting) -> Step:
    """As timm's train.py does without logging, a learning rate's schedule and a scaler."""
    net, optimizer = network(setting)
    task = ClassificationTask(net, device=torch.device(setting.device), verbose=False)

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        with setting.autocast():
            loss = task(images, targets)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def lightning_alone(setting: Setting) -> Callable[[Batches], float]:
    """Seconds a step of Lightning's loop around the same step, without callbacks and loggers."""
    net, optimizer = network(setting)
    module = _Plain(net, optimizer)

    def seconds(batches: Batches) -> float:
        trainer = pl.Trainer(
            max_epochs=2,  # the first warms up
            accelerator="gpu" if setting.device == "cuda" else "cpu",
            devices=1,
            precision=setting.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, train_dataloaders=_Listed(batches))
        return module.seconds / len(batches)

    return seconds


class _Listed:
    """Batches as they are: no loader that Lightning would look into."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(self._batches)


class _Plain(pl.LightningModule):
    def __init__(self, net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.net = net
        self._optimizer = optimizer

    def on_train_epoch_start(self) -> None:
        self._since = now(self.device.type)

    def on_train_epoch_end(self) -> None:
        self.seconds = now(self.device.type) - self._since  # before Lightning moves everything off the device

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, targets = batch
        return F.cross_entropy(self.net(images), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self._optimizer


def network(setting: Setting) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Those of the run, apart from it."""
    config = configuration(setting, (), image_size=setting.base_size, epochs=1)
    net = trainable_network(config, num_classes=setting.num_classes)
    net = net.to(setting.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return net, build_optimizer(net, plain(config.recipe.optimizer), fused=True)


def timed(setting: Setting, step: Step, batches: Batches) -> float:
    """Seconds a step, behind one that is not counted."""
    step(*batches[0])
    since = now(setting.device)
    for batch in batches:
        step(*batch)
    return (now(setting.device) - since) / len(batches)


def epoch_seconds(setting: Setting, step: Step, loader: Any) -> float:
    """Seconds a step of timm's loader, from before its first batch is made."""
    since = now(setting.device)
    for images, targets in loader:
        step(images.contiguous(memory_format=torch.channels_last), targets)
    return (now(setting.device) - since) / len(loader)


def scheduled_loader(setting: Setting, wanted: Mapping[int, int]) -> Any:
    """Images of PIL in memory, with timm's own crop; seeded such that every size comes as often as in our epoch."""
    generator = torch.Generator().manual_seed(0)
    side = setting.base_size
    pixels = torch.randint(0, 256, (setting.num_images, side, side, 3), dtype=torch.uint8, generator=generator)
    images = [(Image.fromarray(one.numpy()), number % setting.num_classes) for number, one in enumerate(pixels)]
    batch_sizes = [setting.batch_size] * len(setting.sizes)

    def shows_as_often(seed: int) -> bool:
        schedule = ScheduledBatchSampler(range(len(images)), batch_sizes, seed=seed).schedule
        return Counter(setting.sizes[choice] for choice, _ in schedule) == Counter(wanted)

    return create_loader(
        InMemory(images),
        input_size=(3, side, side),
        batch_size=setting.batch_size,
        is_training=True,
        color_jitter=None,
        mean=HALF,
        std=HALF,
        num_workers=setting.workers,
        device=torch.device(setting.device),
        input_size_choices=setting.sizes,
        batch_choice_seed=next(seed for seed in itertools.count() if shows_as_often(seed)),
    )


class InMemory(torch.utils.data.Dataset[Any]):
    """What timm takes for a data set."""

    transform: Any = None

    def __init__(self, images: Sequence[tuple[Image.Image, int]]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self._images[index]
