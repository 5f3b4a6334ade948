"""Loaders of image files side by side: images a second, CPU time an image and memory; `make bench-data`.

    python benchmarks/data.py [--corpus FOLDER] [--rounds 5]

Every loader reads the same files, in batches of 64 random crops (8 to 100 % of the area), flipped, bilinear and
antialiased: uint8 images (64, 3, size, size) and int64 labels. Without a folder (of a folder for each class), the
corpus is made: JPEGs with ImageNet's mean figures (476 x 405 px, 4.2 bits a pixel, 4:2:0) and the spectrum of photos.
Each measurement is a process of its own, and the loaders take turns. For `sizemix pack`, the corpus is packed first;
`sizemix, processes` makes the same batches as `sizemix` by torch's worker processes instead of threads. Small images in
memory, cropped and flipped, are compared likewise, on one core. The tables go into docs/results.md.
"""

import argparse
import itertools
import json
import os
import platform
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).parents[1]
BATCH, SIZES, MEMORY_SIZES = 64, (128, 224), (16, 32, 48)
LEAST_SECONDS, LEAST_BATCHES = 2.0, 24
MADE_PHOTOS = 768

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--measure", nargs=2, metavar=("LOADER", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        loader, size = arguments.measure
        print(json.dumps(measured(loader, int(size), arguments.corpus, arguments.workers)))
        return
    with tempfile.TemporaryDirectory() as made:
        corpus = arguments.corpus or made_corpus(Path(made) / "corpus")
        packed = pack(corpus, Path(made) / "pack", arguments.workers)
        compare(corpus, Path(made) / "pack", arguments.rounds, arguments.workers, arguments.document)
        print(packed)


def pack(corpus: Path, destination: Path, workers: int) -> str:
    """Packs the corpus, and says what came of it."""
    from sizemix.data.pack_writer import write_pack

    packed = write_pack(
        corpus,
        destination,
        quality=95,
        jpegtran=shutil.which("jpegtran"),
        val_dir="val",
        test_dir="test",
        allow_broken=False,
        num_threads=workers,
    )
    return (
        f"pack: {packed.bytes / 1e6:.1f} MB of {packed.source_bytes / 1e6:.1f} MB "
        f"({packed.bytes / packed.source_bytes:.2f} x) in {packed.seconds:.1f} s, {packed.lossless} losslessly"
    )


def compare(corpus: Path, packed: Path, rounds: int, workers: int, document: Path) -> None:
    """Lets all loaders take turns and writes both tables."""
    found = {}
    for turn, size, loader in itertools.product(range(rounds), SIZES + MEMORY_SIZES, LOADERS):
        if (size in MEMORY_SIZES) != (loader in IN_MEMORY) or not installed(loader):
            continue
        images = packed if loader == "sizemix pack" else corpus
        found.setdefault((loader, size), []).append(in_own_process(loader, size, images, workers))
        print(f"round {turn + 1}, {loader} at {size} px: {found[loader, size][-1]}", flush=True)
    write_table = runpy.run_path(str(ROOT / "tools" / "tables.py"))["write_table"]
    for name, base, sizes in (("data-folder", "timm", SIZES), ("data-memory", "v2 per sample", MEMORY_SIZES)):
        columns, rows = table(found, base=base, sizes=sizes)
        write_table(document, name, columns, rows)
        print("\n".join(" | ".join(row) for row in (columns, *rows)))
    print(machine(corpus, workers))


def table(found: dict[tuple[str, int], list[dict[str, float]]], *, base: str, sizes: Iterable[int]) -> Any:
    """Medians; ratios are medians of the rounds' ratios, with their range."""
    rows = []
    for size, loader in itertools.product(sizes, LOADERS):
        if (loader, size) in found:
            runs, others = found[loader, size], found[base, size]
            ratios = {
                unit: sorted(run[unit] / other[unit] for run, other in zip(runs, others, strict=True))
                for unit in ("images_per_second", "cpu_us")
            }
            speed, cpu = (statistics.median(run[unit] for run in runs) for unit in ("images_per_second", "cpu_us"))
            rows.append(
                (
                    f"{size} px",
                    loader,
                    f"{speed:,.0f}",
                    spread(ratios["images_per_second"]),
                    f"{cpu:,.0f}",
                    spread([1 / ratio for ratio in reversed(ratios["cpu_us"])]),
                    f"{max(run['peak_mib'] for run in runs):,.0f}",
                )
            )
    columns = ("size", "loader", "images/s", f"x {base}", "CPU µs an image", f"{base} over it", "peak MiB")
    return columns, rows


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def machine(corpus: Path, workers: int) -> str:
    """What the figures were measured with."""
    names = ("torch", "torchvision", "timm", "pillow", "simplejpeg", "nvidia-dali-cuda120")
    versions = ", ".join(f"{name} {version(name)}" for name in names if installed_version(name))
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    files = [path.stat().st_size for path in corpus.rglob("*") if path.is_file()]
    return (
        f"{workers} workers on {os.cpu_count()} cores ({model.partition(': ')[2]}), load {os.getloadavg()[0]:.1f}; "
        f"{len(files)} files of {np.mean(files) / 1000:.0f} kB; Python {platform.python_version()}, {versions}"
    )


def in_own_process(loader: str, size: int, corpus: Path, workers: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--corpus", str(corpus), "--workers", str(workers)]
    command += ["--measure", loader, str(size)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measured(loader: str, size: int, corpus: Path, workers: int) -> dict[str, float]:
    """Batches behind those that were begun while workers started."""
    torch.set_num_threads(1)
    batches = LOADERS[loader](corpus, size, workers)
    for _ in range(2 * workers + 2):
        pixels, labels = next(batches)
        assert pixels.float().std() > 1
        assert len(labels.unique()) > 1
    with PeakMemory() as memory:
        cpu, start, seconds, images = cpu_seconds(), time.perf_counter(), 0.0, 0
        for number, (pixels, labels) in enumerate(batches):
            assert (pixels.shape[1:], labels.shape) == ((3, size, size), pixels.shape[:1])
            assert (pixels.dtype, labels.dtype) == (torch.uint8, torch.int64)
            images, seconds = images + len(labels), time.perf_counter() - start
            if number >= LEAST_BATCHES and seconds > LEAST_SECONDS:
                break
        cpu = cpu_seconds() - cpu
    return {"images_per_second": images / seconds, "cpu_us": 1e6 * cpu / images, "peak_mib": memory.peak / 2**20}


def family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def cpu_seconds() -> float:
    """Of this process and of those it has started."""
    return sum(sum(process.cpu_times()[:2]) for process in family())


class PeakMemory:
    """Looks ten times a second what this process and those it has started take; shared pages are divided."""

    def __enter__(self) -> "PeakMemory":
        self.peak, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            self.peak = max(self.peak, sum(process.memory_full_info().pss for process in family()))


class Endless(Dataset[Any]):
    """A data set many times over, so that no loader has to begin an epoch while it is measured."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return max(len(self.dataset), 10**6)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index % len(self.dataset)]

    @property
    def transform(self) -> Any:  # which timm's create_loader sets
        """The data set's own."""
        return self.dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self.dataset.transform = transform


def timm_loader(corpus: Path, size: int, workers: int) -> Batches:
    """create_loader, without the PrefetchLoader around it, which turns the bytes into floats on a device."""
    from timm.data import ImageDataset, create_loader

    loader = create_loader(
        Endless(ImageDataset(str(corpus))),
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=True,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        num_workers=workers,
        device=torch.device("cpu"),
    )
    return iter(loader.loader)


def torchvision_loader(corpus: Path, size: int, workers: int) -> Batches:
    """ImageFolder on torchvision's own JPEG decoder, which is faster than its usual one, and v2 on bytes."""
    from torchvision.datasets import ImageFolder
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    augment = v2.Compose([v2.RandomResizedCrop((size, size), antialias=True), v2.RandomHorizontalFlip()])
    dataset = ImageFolder(corpus, augment, loader=lambda path: decode_image(path, mode=ImageReadMode.RGB))
    return iter(DataLoader(Endless(dataset), BATCH, shuffle=True, num_workers=workers))


def dali_loader(corpus: Path, size: int, workers: int) -> Batches:
    """On the CPU; it decodes the crop alone."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def
    def pipeline() -> Any:
        files, labels = fn.readers.file(file_root=str(corpus), random_shuffle=True, name="files")
        crops = fn.decoders.image_random_crop(
            files, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        resized = fn.resize(crops, size=[size, size], interp_type=types.INTERP_LINEAR, antialias=True)
        flipped = fn.flip(resized, horizontal=fn.random.coin_flip())
        return fn.transpose(flipped, perm=[2, 0, 1]), labels

    built = pipeline(batch_size=BATCH, num_threads=workers, device_id=None)
    built.build()
    while True:
        images, labels = built.run()
        yield (
            torch.from_numpy(np.array(images.as_tensor())),
            torch.from_numpy(np.array(labels.as_tensor())).flatten().long(),
        )


def sizemix_loader(corpus: Path, size: int, workers: int) -> Batches:
    """data=folder."""
    return sizemix_batches(folder_source(corpus), size, BATCH, workers)


def pack_loader(corpus: Path, size: int, workers: int) -> Batches:
    """data=pack."""
    from sizemix.data.pack import pack

    source = photo_batches(pack(root=str(corpus), val_fraction=0.01, test_fraction=0.01))
    return sizemix_batches(source, size, BATCH, workers)


def processes_loader(corpus: Path, size: int, workers: int) -> Batches:
    """data=folder, with processes where sizemix has threads."""
    source = folder_source(corpus)

    class Made(Dataset[Any]):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, item: int) -> Any:
            batch = source.train(train_request(source, size, BATCH, item))
            return batch.images, batch.targets

    return iter(DataLoader(Made(), batch_size=None, num_workers=workers))


def folder_source(corpus: Path) -> Any:
    from sizemix.data.folder import folder

    return photo_batches(folder(root=str(corpus), val_fraction=0.01, test_fraction=0.01))


def photo_batches(dataset: Any) -> Any:
    from sizemix.data.appearance import Appearance
    from sizemix.data.preprocessing import Preprocessing

    half = (0.5, 0.5, 0.5)
    return dataset.train.batches(appearance=Appearance(), flip=True, preprocessing=Preprocessing(half, half))


def sizemix_batches(source: Any, size: int, batch_size: int, workers: int) -> Batches:
    from sizemix.data.prefetch import prefetched

    requests = (train_request(source, size, batch_size, item) for item in itertools.count())
    for batch in prefetched(requests, source.train, num_threads=workers):
        yield batch.images, batch.targets


def train_request(source: Any, size: int, batch_size: int, item: int) -> Any:
    from sizemix.data.request import TrainRequest

    order = np.random.default_rng(item).integers(0, source.num_images, batch_size)
    return TrainRequest(order, np.full_like(order, item), size, 1, 0, item)


def cifar_like() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10_000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (10_000,), generator=generator)


def v2_in_memory(corpus: Path, size: int, workers: int) -> Batches:
    """One image after the other, as torchvision's CIFAR10 would, but from tensors, which is faster than from PIL."""
    from torchvision.transforms import v2

    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    augment = v2.Compose(steps if size == 32 else [*steps, v2.Resize((size, size), antialias=True)])
    images, labels = cifar_like()

    class Augmented(Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return augment(images[index]), int(labels[index])

    return iter(DataLoader(Endless(Augmented()), 256, shuffle=True))


def sizemix_in_memory(corpus: Path, size: int, workers: int) -> Batches:
    from sizemix.data.batches import InMemoryBatches

    return sizemix_batches(InMemoryBatches(*cifar_like(), crop_padding=4, flip=True), size, 256, workers=0)


LOADERS: dict[str, Callable[[Path, int, int], Batches]] = {
    "timm": timm_loader,
    "torchvision": torchvision_loader,
    "DALI": dali_loader,
    "sizemix": sizemix_loader,
    "sizemix, processes": processes_loader,
    "sizemix pack": pack_loader,
    "v2 per sample": v2_in_memory,
    "sizemix in memory": sizemix_in_memory,
}
IN_MEMORY = ("v2 per sample", "sizemix in memory")


def installed(loader: str) -> bool:
    return loader != "DALI" or (find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None)


def installed_version(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def made_corpus(folder: Path) -> Path:
    """Two classes of textures whose power falls with the frequency as that of photos does."""
    rng = np.random.default_rng(0)
    for number in range(MADE_PHOTOS):
        width, height = (int(side) for side in rng.normal((476, 405), (90, 75)).clip(200, 900))
        light, red, blue = (
            strength * texture(rng, width, height, power) for strength, power in ((40, 1.2), (16, 1.4), (16, 1.4))
        )
        pixels = 128 + np.stack([light + red, light - 0.4 * (red + blue), light + blue], axis=-1)
        path = folder / ("even", "odd")[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path, quality=93)
    return folder


def texture(rng: np.random.Generator, width: int, height: int, power: float) -> np.ndarray:
    frequency = np.hypot(np.fft.rfftfreq(width)[None], np.fft.fftfreq(height)[:, None])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) / frequency**power, s=(height, width))
    return field / field.std()


if __name__ == "__main__":
    main()
