"""Training steps side by side: a bare torch loop, timm's training task and a run of ours; `make bench-train`.

    python benchmarks/training.py [--gpu] [--rounds 7] [--parts steps mixed host long small together]

All train the same timm network with the same optimizer on the same device, in one process, and take turns.
steps: at fixed sizes; the loop and timm's task have one random batch on the device, ours is a whole run with all its
callbacks, which crops, mirrors and normalises random images held in memory. A round is an epoch of the run, without
validation and checkpoints, then as many steps of the others. On the CPU the clock is that
of the process, one thread, so that other work on the machine changes little; on a GPU it is that of the wall.
mixed: an epoch of all sizes, with gradient smoothing, against epochs of one size, the bare loop in the same order of
sizes, and timm's loader of scheduled sizes with its task, from start to end, and alone: it crops images of PIL on the
host, where ours crops bytes, on the device if that is a GPU.
host: a network of three layers, so that a step is the host's work alone: ours, a bare loop, Lightning by itself.
long (GPU only): many mixed steps, for each choice of model.compile: start, growth of memory, compiled graphs.
small (GPU only): epochs of 50,000 images of 32 px with ResNet-44 (CIFAR), batch 64, as a run is and with one thing
changed; such a network is bound by the host.
together (GPU only): 1, 2 and 4 such runs on one GPU.

--gpu, or `make bench-gpu`: ResNet-50, bf16, channels_last; all of it may take most of an hour, `--rounds 2 --parts
steps mixed host` five minutes. The tables go into docs/results.md. timm's own script lets cuDNN search for kernels, for
which --cudnn-benchmark stands.
"""

import argparse
import os
import platform
import runpy
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rivals import bare_step, epoch_seconds, lightning_alone, scheduled_loader, timed, timm_step
from small_networks import runs_together, small_network
from watched_runs import Setting, Watch, Window, begin, now, peak_bytes, spread, start_counting, train, turns

from sizemix.training.assembly import Run
from sizemix.training.quiet import quieten

ROOT = Path(__file__).parents[1]
Row = tuple[str, ...]


CPU = Setting("train", "cpu", "resnet20_cifar", (16, 28, 40), 28, 64, 10, "32-true", 12, 0, 0)
WORKERS = (os.cpu_count() or 2) - 1
GPU = Setting(
    "gpu", "cuda", "timm model.name=resnet50", (96, 160, 224, 320), 224, 256, 1000, "bf16-mixed", 32, 0, WORKERS
)
TINY = replace(GPU, device="cpu", model="timm model.name=test_resnet", sizes=(32, 64), base_size=64, batch_size=4)
TINY = replace(TINY, num_classes=10, steps=4, long_steps=24, workers=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--long-steps", type=int, default=2000, help="of each run of part long")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN try its kernels for every shape")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--device", choices=("cpu",), help=argparse.SUPPRESS)  # tries --gpu where there is none
    arguments = parser.parse_args()
    setting = (TINY if arguments.device else replace(GPU, long_steps=arguments.long_steps)) if arguments.gpu else CPU
    if setting.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch sees no CUDA device here, so there is nothing to measure.")
        return
    if setting.device == "cpu":
        torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = arguments.cudnn_benchmark
    quieten()
    tables = runpy.run_path(str(ROOT / "tools" / "tables.py"))
    parts = [part for part in arguments.parts if part not in GPU_PARTS or arguments.gpu]
    for part in parts:
        tables["check_place"](arguments.document, f"{setting.name}-{part}")
    for part in parts:
        columns, rows = PARTS[part](setting, arguments.rounds)
        print("\n".join(" | ".join(row) for row in (columns, *rows)), flush=True)
        tables["write_table"](arguments.document, f"{setting.name}-{part}", columns, rows)
    print(machine(setting, arguments.rounds))


def machine(setting: Setting, rounds: int) -> str:
    """What the figures were measured with."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    device = torch.cuda.get_device_name() if setting.device == "cuda" else model.partition(": ")[2]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "pytorch-lightning"))
    return (
        f"{device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads of torch; "
        f"{rounds} rounds of {setting.steps} steps, batch {setting.batch_size}; "
        f"Python {platform.python_version()}, {versions}"
    )


def fixed_sizes(setting: Setting, rounds: int) -> tuple[Row, list[Row]]:
    """Part steps."""
    columns = (
        "size",
        "bare loop, images/s",
        "timm's task x bare",
        "our run x bare",
        "ms a step over bare",
        "ms of data",
    )
    return columns, [fixed_size(setting, size, rounds) for size in setting.sizes]


def fixed_size(setting: Setting, size: int, rounds: int) -> Row:
    """All three in turns; the first turn warms up."""
    seconds: dict[str, list[float]] = defaultdict(list)
    steps, batch = {"bare": bare_step(setting), "timm": timm_step(setting)}, setting.batch(size)

    def others(run: Run) -> None:
        for name, step in steps.items():
            seconds[name].append(timed(setting, step, [batch] * setting.steps))
        seconds["data"].append(data_seconds(setting, run, size))

    options = ("sizes=fixed", f"sizes.base_size={size}")
    windows = turns(setting, options, image_size=size, epochs=rounds + 1, others=others)
    bare, timm, data = (seconds[name][1:] for name in ("bare", "timm", "data"))
    ours = [window.seconds / setting.steps for window in windows[1:]]
    return (
        f"{size} px",
        f"{setting.batch_size / statistics.median(bare):,.0f}",
        spread([one / other for one, other in zip(bare, timm, strict=True)]),
        spread([one / other for one, other in zip(bare, ours, strict=True)]),
        spread([1000 * (one - other) for one, other in zip(ours, bare, strict=True)], digits=1),
        f"{1000 * statistics.median(data):.1f}",
    )


def mixed_sizes(setting: Setting, rounds: int) -> tuple[Row, list[Row]]:
    """Part mixed."""
    scheduled: list[float] = []
    loading: list[float] = []
    bare: list[float] = []
    step, timm, batches = bare_step(setting), timm_step(setting), {size: setting.batch(size) for size in setting.sizes}
    kinds = len(setting.sizes) + 1
    loaders: list[Any] = []

    def others(run: Run) -> None:
        epoch = run.trainer.current_epoch
        if epoch % kinds:
            return
        order = [spec.image_size for spec in run.scheduler.planned.epoch_specs(epoch)]
        loaders.extend([] if loaders else [scheduled_loader(setting, Counter(order))])
        bare.append(timed(setting, step, [batches[size] for size in order]))
        scheduled.append(epoch_seconds(setting, timm, loaders[0]))
        loading.append(epoch_seconds(setting, lambda images, targets: None, loaders[0]))

    sizes = ",".join(map(str, setting.sizes))
    options = (
        "sizes=mixed",
        "sizes._target_=watched_runs.InTurn",
        f"sizes.image_sizes=[{sizes}]",
        "sizes.budget=constant",
    )
    windows = turns(setting, options, image_size=setting.base_size, epochs=kinds * (rounds + 1), others=others)
    by_round = [windows[at : at + kinds] for at in range(kinds, len(windows), kinds)]
    ours = [of_round[0].seconds / setting.steps for of_round in by_round]
    others_seconds = {
        "bare loop, same sizes": bare[1:],
        "timm's scheduled loader and task": scheduled[1:],
        "timm's scheduled loader alone": loading[1:],
    }
    return mixed_table(setting, by_round, others_seconds, ours)


def mixed_table(
    setting: Setting, by_round: Sequence[Sequence[Window]], others: Mapping[str, list[float]], ours: list[float]
) -> tuple[Row, list[Row]]:
    """Seconds of a step in mixed order, beside those of the steps at each size."""
    alone = [{next(iter(window.sizes)): window.seconds / setting.steps for window in turn[1:]} for turn in by_round]
    summed = [
        sum(number * steps[size] for size, number in turn[0].sizes.items()) / setting.steps
        for turn, steps in zip(by_round, alone, strict=True)
    ]
    switches = statistics.median(turn[0].switches for turn in by_round)
    mean_pixels = statistics.mean(size**2 for size in by_round[0][0].sizes.elements())
    lines = {"our run, all sizes": ours, "sum of our steps at each size": summed, **others}
    pixels = dict.fromkeys(lines, mean_pixels)
    for size in setting.sizes:
        lines[f"our run, {size} px"], pixels[f"our run, {size} px"] = [steps[size] for steps in alone], size**2
    rows = [
        (
            name,
            f"{setting.batch_size / statistics.median(seconds):,.0f}",
            f"{setting.batch_size * pixels[name] / statistics.median(seconds) / 1e6:.2f}",
            spread([one / other for one, other in zip(ours, seconds, strict=True)]),
        )
        for name, seconds in lines.items()
    ]
    cost = [1000 * (one - other) * setting.steps / switches for one, other in zip(ours, summed, strict=True)]
    rows.append(("ms for a change of size", "", "", spread(cost, digits=2)))
    return ("what", "images/s", "megapixels/s", "its speed x our run's"), rows


def long_runs(setting: Setting, rounds: int) -> tuple[Row, list[Row]]:
    """Part long; the CPU, where it is only tried, does not compile."""
    choices = ("false", "true", "reduce-overhead") if setting.device == "cuda" else ("false",)
    columns = ("model.compile", "s to the first step", "s of the first steps at all sizes", "images/s then")
    columns = (*columns, "reserved MiB, early and at the end", "peak MiB", "graphs, early and at the end")
    return columns, [long_run(setting, choice) for choice in choices]


def long_run(setting: Setting, compilation: str) -> Row:
    """Early is the start of the third epoch, when every size has been trained and validated."""
    setting = replace(setting, batch_size=min(setting.batch_size, 64))  # the steps count, not their size
    start_counting(setting.device)
    begun = now(setting.device)
    sizes = ",".join(map(str, setting.sizes))
    options = ("sizes=mixed", f"sizes.image_sizes=[{sizes}]", "sizes.shares=null", "sizes.budget=constant")
    with tempfile.TemporaryDirectory() as folder:
        epochs = max(4, setting.long_steps // setting.steps)
        run, at = begin(
            setting,
            (*options, f"model.compile={compilation}"),
            folder,
            image_size=setting.base_size,
            epochs=epochs,
        )
        watch = Watch(setting)
        train(run, at, watch)
    firsts, windows = watch.first_seconds, watch.windows[2:]
    return (
        compilation,
        f"{watch.first_end - begun:.1f}",
        f"{sum(firsts.values()):.1f}",
        spread([setting.batch_size * setting.steps / window.seconds for window in windows], digits=0),
        " to ".join(f"{reserved / 2**20:,.0f}" for reserved in (watch.memory[2], watch.memory[-1])),
        f"{peak_bytes(setting) / 2**20:,.0f}",
        " to ".join(str(graphs) for graphs in (watch.graphs[2], watch.graphs[-1])),
    )


def host_work(setting: Setting, rounds: int) -> tuple[Row, list[Row]]:
    """Part host."""
    tiny = replace(setting, model="resnet20_cifar model._target_=watched_runs.tiny_network", steps=200)
    size = setting.sizes[0]
    batches = [tiny.batch(size)] * tiny.steps
    seconds: dict[str, list[float]] = defaultdict(list)
    step, alone = bare_step(tiny), lightning_alone(tiny)

    def others(run: Run) -> None:
        seconds["Lightning alone"].append(alone(batches))  # first, as it empties torch's cache of GPU memory
        seconds["bare torch loop"].append(timed(tiny, step, batches))
        seconds["our batches"].append(data_seconds(tiny, run, size))

    windows = turns(tiny, ("sizes=fixed", f"sizes.base_size={size}"), image_size=size, epochs=rounds + 1, others=others)
    seconds["our run"] = [window.seconds / tiny.steps for window in windows]
    names = ("bare torch loop", "Lightning alone", "our run", "our batches")
    rows = [(name, spread([1000 * one for one in seconds[name][1:]])) for name in names]
    return ("what", "ms a step"), rows


def data_seconds(setting: Setting, run: Run, size: int) -> float:
    """Seconds for one of our batches alone: drawn, cropped, mirrored, normalised, on the device."""
    batches = run.datamodule.calibration_batches(
        size, num_images=setting.num_images, batch_size=setting.batch_size, augment=True
    )
    since = now(setting.device)
    number = sum(1 for _ in batches)
    return (now(setting.device) - since) / number


PARTS: dict[str, Callable[[Setting, int], tuple[Row, list[Row]]]] = {
    "steps": fixed_sizes,
    "mixed": mixed_sizes,
    "host": host_work,
    "long": long_runs,
    "small": small_network,
    "together": runs_together,
}
GPU_PARTS = ("long", "small", "together")

if __name__ == "__main__":
    main()
