"""Runs of ours on random images, watched by a last callback; benchmarks/training.py measures with them."""

import contextlib
import gc
import io
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
import torch._dynamo
import torch._inductor.config

from sizemix.checkpointing.signals import StopSignals
from sizemix.checkpointing.stopping import StopBehindStep
from sizemix.cli.compose import compose
from sizemix.data.batches import Batch
from sizemix.data.sources import ImageDataset, Split
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import Run, assemble
from sizemix.training.run import fit

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Setting:
    """What is trained, where, and for how long.

    Attributes:
        sizes: sides in pixels; those of the mixed epochs.
        base_size: side of the mixed epochs' stored images.
        steps: of a round.
        long_steps: of the long run.
        workers: processes of timm's loader.
    """

    name: str
    device: str
    model: str
    sizes: tuple[int, ...]
    base_size: int
    batch_size: int
    num_classes: int
    precision: str
    steps: int
    long_steps: int
    workers: int

    @property
    def num_images(self) -> int:
        """Of an epoch."""
        return self.batch_size * self.steps

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass outside of a run."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A random one on the device."""
        images = torch.randn(self.batch_size, 3, size, size, device=self.device)
        targets = torch.randint(self.num_classes, (self.batch_size,), device=self.device)
        return images.contiguous(memory_format=torch.channels_last), targets


def begin(
    setting: Setting, options: Sequence[str], folder: str, *, image_size: int, epochs: int
) -> tuple[Run, RunFolder]:
    """A run that is ready to train."""
    config = configuration(setting, options, image_size=image_size, epochs=epochs)
    at = RunFolder.create(Path(folder) / "run", config)
    return assemble(config, at), at


def train(run: Run, folder: RunFolder, watch: "Watch") -> None:
    """As sizemix.training.run does; nothing is saved, and what it tells of every epoch is not shown."""
    stop = StopBehindStep(StopSignals(), run.last, log_every_steps=run.trainer.log_every_n_steps)
    run.trainer.callbacks += [stop, watch]
    run.trainer.save_checkpoint = lambda *_, **__: None
    with contextlib.redirect_stdout(io.StringIO()):
        fit(run, folder)


def configuration(setting: Setting, options: Sequence[str], *, image_size: int, epochs: int) -> Any:
    """A run's, on random images of that size."""
    return compose(
        [
            "data=fashion_mnist",
            "data._target_=watched_runs.random_images",
            f"data.train_images={setting.num_images}",
            f"+data.num_classes={setting.num_classes}",
            f"+data.image_size={image_size}",
            *(f"model={setting.model}".split()),
            f"data.base_size={setting.base_size}",
            f"recipe.base_batch_size={setting.batch_size}",
            f"evaluation.batch_size={setting.batch_size}",
            f"evaluation.eval_sizes=[{setting.base_size}]",
            f"trainer={'gpu' if setting.device == 'cuda' else 'cpu'}",
            f"trainer.precision={setting.precision}",
            f"trainer.max_epochs={epochs}",
            *options,
        ]
    )


def random_images(*, train_images: int, crop_padding: int, image_size: int, num_classes: int) -> ImageDataset:
    """Named by the configuration; validation and test are of one batch or less."""
    generator = torch.Generator().manual_seed(0)

    def split(number: int) -> Split:
        shape = (number, 3, image_size, image_size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(number) % num_classes, crop_padding)

    names = tuple(str(number) for number in range(num_classes))
    return ImageDataset("random", split(train_images), split(8), split(8), names, HALF, HALF)


def tiny_network(num_classes: int, **_: Any) -> torch.nn.Module:
    """Named by the configuration; next to no work."""
    conv, norm = torch.nn.Conv2d(3, 4, kernel_size=3, stride=4), torch.nn.BatchNorm2d(4)
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(conv, norm, torch.nn.ReLU(), pooled, torch.nn.Linear(4, num_classes))


class InTurn:
    """An epoch of all sizes, then one of each size alone, again and again; named by the configuration."""

    def __init__(self, *, image_sizes: Sequence[int], **_: Any) -> None:
        self.image_sizes = tuple(image_sizes)

    def shares(self, epoch: int) -> Mapping[int, float]:
        """Equal ones."""
        kind = epoch % (len(self.image_sizes) + 1)
        sizes = self.image_sizes if kind == 0 else self.image_sizes[kind - 1 : kind]
        return dict.fromkeys(sizes, 1 / len(sizes))


@dataclass(frozen=True)
class Window:
    """All steps of an epoch, from before its first batch is made.

    Attributes:
        seconds: of all of them, from an idle device to an idle device.
        sizes: steps at each size.
        switches: steps at another size than the step before.
    """

    seconds: float
    sizes: Counter[int]
    switches: int


class Watch(pl.Callback):
    """The last callback of a run; the device is waited for only where a window begins and ends, and at a new size.

    Attributes:
        windows: one an epoch.
        first_seconds: of the first step at every size.
        first_end: when the first step was over.
        memory: bytes held at the start of every epoch.
        graphs: that torch had compiled by then.
    """

    def __init__(self, setting: Setting, *, others: Callable[[], None] = lambda: None) -> None:
        self.windows: list[Window] = []
        self.first_seconds: dict[int, float] = {}
        self.first_end = 0.0
        self.memory: list[int] = []
        self.graphs: list[int] = []
        self._setting, self._others = setting, others
        self._sizes: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Forgets what the trial of memory took."""
        if self._setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begins an epoch's notes, and its window."""
        self._sizes = []
        self.memory.append(held_bytes(self._setting))
        self.graphs.append(compiled_graphs())
        self._since = now(self._setting.device)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, index: int) -> None:
        """Starts the clock of a size's first step."""
        if batch.image_size not in self.first_seconds:
            self._step_since = now(self._setting.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        """Stops it, and ends the window."""
        self._sizes.append(batch.image_size)
        if batch.image_size not in self.first_seconds:
            self.first_end = self.first_end or now(self._setting.device)
            self.first_seconds[batch.image_size] = now(self._setting.device) - self._step_since
        if index + 1 == trainer.num_training_batches:
            switches = sum(one != other for one, other in itertools.pairwise(self._sizes))
            self.windows.append(Window(now(self._setting.device) - self._since, Counter(self._sizes), switches))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Lets the others have their turn."""
        self._others()


def now(device: str) -> float:
    """Seconds of the wall behind all that the device has to do, or of this process where it is the device."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def start_counting(device: str) -> None:
    """Forgets the memory and the compiled graphs of earlier runs, those on disk too."""
    gc.collect()
    torch._inductor.config.force_disable_caches = True
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    if device == "cuda":
        torch.cuda.empty_cache()


def held_bytes(setting: Setting) -> int:
    if setting.device == "cuda":
        return torch.cuda.memory_reserved()
    return psutil.Process().memory_info().rss


def peak_bytes(setting: Setting) -> int:
    return torch.cuda.max_memory_allocated() if setting.device == "cuda" else held_bytes(setting)


def compiled_graphs() -> int:
    """Recompilations count."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def turns(
    setting: Setting, options: Sequence[str], *, image_size: int, epochs: int, others: Callable[[Run], None]
) -> list[Window]:
    """A run's epochs, with the others' turns behind each."""
    with tempfile.TemporaryDirectory() as folder:
        run, at = begin(setting, options, folder, image_size=image_size, epochs=epochs)
        watch = Watch(setting, others=lambda: others(run))
        train(run, at, watch)
    return watch.windows


def spread(values: Sequence[float], *, digits: int = 2) -> str:
    """Median (least to greatest)."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"
