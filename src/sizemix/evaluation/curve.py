"""Shows a network every image of a split at many sizes, with training statistics and with recalibrated ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sizemix.data.batches import NOT_SHOWN, Batch
from sizemix.errors import UserError
from sizemix.evaluation.predictions import Answers, Predictions
from sizemix.evaluation.ranks import combined, gathered, on_its_own
from sizemix.models.batchnorm import Statistics, batch_norms, evaluating, holding, measured_statistics


class Batches(Protocol):
    """Batches of several sizes, as many as its length says, all sizes of some images before those of the next.

    Attributes:
        rows: (images,) the numbers of their images in the split, in the order in which they come.
    """

    rows: NDArray[np.int64]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def size_statistics(net: nn.Module, batches: Batches, *, show_progress: bool = True) -> dict[int, Statistics]:
    """Batch-norm statistics for every size that the batches have; none where the network has no batch norms.

    Several ranks give each its part of the batches, and all get the statistics of all batches.

    Args:
        net: images to logits; left as it was.
        batches: normalised training images; not read where the network has no batch norms.
        show_progress: a progress bar with the current size.
    """
    if not batch_norms(net):
        return {}
    with (
        tqdm(total=len(batches), desc="Recalibrating", unit="batch", disable=None if show_progress else True) as bar,
        on_its_own(net),
    ):
        shown = ((batch.image_size, batch.images) for batch in _shown(batches, bar))
        return measured_statistics(net, shown, combine=combined)


def predictions(
    net: nn.Module,
    batches: Batches,
    *,
    image_sizes: Sequence[int],
    statistics: Mapping[int, Statistics],
    image_digest: str,
    outputs: Sequence[int] | None = None,
    show_progress: bool = True,
) -> Predictions:
    """What the network says of every image, at every size, with the statistics it has and with those of the size.

    The sizes are looked at side by side, so that an image need be read only once for all of them. Several ranks give
    each its part of the batches, and all get the whole.

    Args:
        net: images to logits; left as it was.
        batches: normalised images at these sizes.
        image_sizes: sides in pixels.
        statistics: of batch norms, by image_size; empty where the network has none.
        image_digest: names the images.
        outputs: for each class of the data the network's output; None: they are the same.
        show_progress: a progress bar with the current size.
    """
    plain, tuned = ({size: _Said() for size in image_sizes} for _ in range(2))
    targets: list[Tensor] = []
    with (
        tqdm(total=len(batches), desc="Evaluating", unit="batch", disable=None if show_progress else True) as bar,
        evaluating(net),
        torch.no_grad(),
    ):
        for batch in renumbered(_shown(batches, bar), outputs):
            if batch.image_size == image_sizes[0]:
                targets.append(batch.targets)
            plain[batch.image_size].add(net(batch.images), batch.targets)
            if statistics:
                with holding(net, statistics[batch.image_size]):
                    tuned[batch.image_size].add(net(batch.images), batch.targets)
    own = _Part(batches.rows, _host(targets), _answers(plain), _answers(tuned) if statistics else None)
    return _whole(gathered(own), tuple(image_sizes), image_digest)


def _shown(batches: Batches, bar: "tqdm[None]") -> Iterator[Batch]:
    for batch in batches:
        bar.set_postfix_str(f"{batch.image_size} px")
        yield batch
        bar.update()


def renumbered(batches: Iterable[Batch], outputs: Sequence[int] | None) -> Iterator[Batch]:
    """Targets in the network's numbers."""
    for batch in batches:
        if outputs is not None:
            numbers = torch.tensor(outputs, device=batch.targets.device)
            batch.targets = numbers[batch.targets].where(batch.targets != NOT_SHOWN, NOT_SHOWN)
        yield batch


@dataclass
class _Said:
    """A network's answers at one size, batch after batch, on its device, which nobody has to wait for."""

    predicted: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)
    loss: list[Tensor] = field(default_factory=list)
    in_top5: list[Tensor] = field(default_factory=list)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Logits (batch, num_classes) of targets (batch,)."""
        logits = logits.float()
        confidence, predicted = logits.softmax(1).max(1)
        most_probable = logits.topk(min(5, logits.shape[1]), dim=1).indices
        self.predicted.append(predicted.int())
        self.confidence.append(confidence)
        self.loss.append(F.cross_entropy(logits, targets, reduction="none", ignore_index=NOT_SHOWN))
        self.in_top5.append((most_probable == targets[:, None]).any(1))


# A rank without batches has empty arrays of no particular type.
_TYPES = {"predicted": np.int32, "confidence": np.float32, "loss": np.float32, "in_top5": np.bool_}


@dataclass(frozen=True)
class _Part:
    """What one rank has seen."""

    rows: NDArray[np.int64]
    targets: NDArray[Any]
    plain: Answers
    recalibrated: Answers | None


def _host(parts: Sequence[Tensor]) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy() if parts else np.empty(0)


def _answers(said: Mapping[int, _Said]) -> Answers:
    return Answers(**{name: np.stack([_host(vars(one)[name]) for one in said.values()]) for name in _TYPES})


def _whole(parts: Sequence[_Part], image_sizes: tuple[int, ...], image_digest: str) -> Predictions:
    """All ranks' parts, in the order of the split's images, without those that could not be read."""
    targets = np.concatenate([part.targets for part in parts])
    order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
    order = order[targets[order] != NOT_SHOWN]
    if not len(order):
        raise UserError("expected images to evaluate on, got none that can be read; check the disk.")

    def joined(answers: Sequence[Answers]) -> Answers:
        columns = {name: np.concatenate([vars(one)[name] for one in answers], axis=1) for name in _TYPES}
        return Answers(**{name: columns[name][:, order].astype(kind) for name, kind in _TYPES.items()})

    tuned = [part.recalibrated for part in parts if part.recalibrated is not None]
    return Predictions(
        image_sizes,
        targets[order].astype(np.int32),
        image_digest,
        joined([part.plain for part in parts]),
        joined(tuned) if tuned else None,
    )
