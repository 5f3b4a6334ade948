"""Classes of images, in batches, while threads read the next ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import UnidentifiedImageError
from torch import Tensor, nn

from sizemix.data.prefetch import prefetched
from sizemix.inference.transform import Picture, Transform
from sizemix.limits import available_cores


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image.

    Attributes:
        name: the file, or the number of an image without one.
        class_name: the most probable class.
        probability: its softmax probability.
        class_number: which output it is.
        image_size: side in pixels that it was shown at.
    """

    name: str
    class_name: str
    probability: float
    class_number: int
    image_size: int


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read.

    Attributes:
        name: the file, or the number of an image without one.
        reason: what the reader said.
    """

    name: str
    reason: str


def predictions(
    net: nn.Module,
    pictures: Iterable[Picture],
    *,
    transform: Transform,
    class_names: Sequence[str],
    batch_size: int,
    num_threads: int | None = None,
) -> Iterator[Prediction | Unreadable]:
    """One for each image, in order; memory does not grow with their number.

    Args:
        net: in eval mode; images (batch, 3, image_size, image_size) to logits.
        pictures: whatever transform takes.
        transform: from one image to what the network is shown.
        class_names: one an output.
        batch_size: images of a forward pass.
        num_threads: that read images; None: one a CPU core.
    """
    device = next(net.parameters(), torch.empty(0)).device
    threads = max(1, int(available_cores())) if num_threads is None else num_threads
    numbered = enumerate(pictures)
    parts = iter(lambda: list(islice(numbered, batch_size)), [])
    for read in prefetched(parts, lambda part: [_shown(one, transform) for one in part], num_threads=threads):
        shown = [pixels for _, pixels in read if isinstance(pixels, Tensor)]
        best = iter(_best(net, torch.stack(shown).to(device)) if shown else [])
        for name, pixels in read:
            if isinstance(pixels, Tensor):
                probability, number = next(best)
                yield Prediction(name, class_names[number], probability, number, transform.image_size)
            else:
                yield Unreadable(name, pixels)


def _shown(numbered: tuple[int, Picture], transform: Transform) -> tuple[str, Tensor | str]:
    """An image's name, and its tensor or why there is none."""
    number, picture = numbered
    name = str(picture) if isinstance(picture, str | Path) else f"image {number}"
    try:
        return name, transform(picture)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # whose own words name a buffer
        return name, "it is no image that Pillow knows"
    except Exception as error:  # whatever one of Pillow's readers raises on a file that is no image
        return name, " ".join(f"{type(error).__name__}: {error}".split())


def _best(net: nn.Module, images: Tensor) -> Sequence[tuple[float, int]]:
    """Probability and number of each image's most probable class."""
    with torch.inference_mode():
        logits: Tensor = net(images.contiguous(memory_format=torch.channels_last))
        probabilities, numbers = logits.float().softmax(1).max(1)
    return list(zip(probabilities.tolist(), numbers.tolist(), strict=True))
