"""Epochs of a network so small that a GPU waits for the host: what each measure brings, and several runs at once.

Parts small and together of benchmarks/training.py. As a program it is one of several runs side by side: it prints the
seconds of its epochs.
"""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from rivals import bare_step, timed
from watched_runs import Setting, Window, spread, turns

from sizemix.data.datamodule import SizedDataModule
from sizemix.training.quiet import quieten

SMALL = Setting("gpu", "cuda", "resnet44_cifar", (32,), 32, 64, 10, "bf16-mixed", 782, 0, 0)
CUDA_GRAPHS = "model.compile=reduce-overhead"


def small_setting(device: str) -> Setting:
    """CIFAR's 50,000 images; where it is only tried, two steps."""
    return SMALL if device == "cuda" else replace(SMALL, device="cpu", model="resnet20_cifar", steps=2)


@contextmanager
def on_the_host() -> Iterator[None]:
    """Batches are made in the training thread and travel, as where images do not live on the GPU."""
    with patch.object(SizedDataModule, "_resident", False):
        yield


@contextmanager
def contiguous() -> Iterator[None]:
    """Networks and images keep torch's usual order of memory."""
    with patch.object(torch, "channels_last", torch.contiguous_format):
        yield


@dataclass(frozen=True)
class Variant:
    """A run with one thing changed.

    Attributes:
        name: in the table.
        options: of the run.
        inside: where it is assembled and trained.
        gpu_only: cannot be tried on a CPU.
    """

    name: str
    options: tuple[str, ...] = ()
    inside: Callable[[], AbstractContextManager[None]] = nullcontext
    gpu_only: bool = False


VARIANTS = (
    Variant("as it is"),
    Variant("with CUDA graphs (`model.compile=reduce-overhead`)", (CUDA_GRAPHS,), gpu_only=True),
    Variant("`model.compile=true`", ("model.compile=true",), gpu_only=True),
    Variant("images on the host", inside=on_the_host),
    Variant("optimizer not fused", ("+recipe.optimizer.fused=false",)),
    Variant("not channels_last", inside=contiguous),
    Variant("32-true", ("trainer.precision=32-true",)),
)


def small_network(setting: Setting, rounds: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Part small; bare loops take their turns behind the epochs of the run as it is."""
    small = small_setting(setting.device)
    on_gpu = small.device == "cuda"
    loops = {"bare torch loop": bare_step(small)}
    if on_gpu:
        loops["bare torch loop with CUDA graphs"] = bare_step(small, cuda_graphs=True)
    batches = [small.batch(32)] * small.steps
    seconds: dict[str, list[float]] = defaultdict(list)

    def others() -> None:
        for name, step in loops.items():
            seconds[name].append(small.steps * timed(small, step, batches))

    for variant in VARIANTS:
        if on_gpu or not variant.gpu_only:
            with variant.inside():
                windows = epochs(small, variant.options, rounds, others=None if seconds else others)
            seconds[variant.name] = [window.seconds for window in windows]
    rows = [
        (name, spread(each[-rounds:]), spread([1000 * one / small.steps for one in each[-rounds:]]))
        for name, each in seconds.items()
    ]
    return ("run", "s an epoch of 50,000 images", "ms a step"), rows


def runs_together(setting: Setting, rounds: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Part together; each run is a process of its own, and all begin at once."""
    rows = []
    for options in ((), (CUDA_GRAPHS,))[: 2 if setting.device == "cuda" else 1]:
        alone = None
        for number in (1, 2, 4):
            by_run = together(number, setting.device, options, rounds)
            speed = sum(small_setting(setting.device).num_images / statistics.median(seconds) for seconds in by_run)
            alone = alone or speed
            every_epoch = [second for seconds in by_run for second in seconds]
            name = " ".join(options) or "as it is"
            rows.append((name, str(number), spread(every_epoch), f"{speed:,.0f}", f"{speed / alone:.2f}"))
    return ("option", "runs", "s an epoch", "images/s of all", "x one run"), rows


def together(number: int, device: str, options: Sequence[str], rounds: int) -> list[list[float]]:
    """Seconds of every epoch of each of several runs."""
    command = [sys.executable, __file__, device, str(rounds), *options]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    said = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        raise RuntimeError(f"expected {number} runs to end well, got exit codes {[run.returncode for run in runs]}")
    return [json.loads(one) for one in said]


def epochs(
    small: Setting, options: Sequence[str], rounds: int, *, others: Callable[[], None] | None = None
) -> list[Window]:
    """Epochs at 32 px behind one that warms up."""
    options = ("sizes=fixed", "sizes.base_size=32", *options)
    windows = turns(small, options, image_size=32, epochs=rounds + 1, others=lambda run: others and others())
    return windows[1:]


def main() -> None:
    """One of several runs."""
    device, rounds, *options = sys.argv[1:]
    quieten()
    if device == "cpu":
        torch.set_num_threads(1)
    print(json.dumps([window.seconds for window in epochs(small_setting(device), options, int(rounds))]))


if __name__ == "__main__":
    main()
