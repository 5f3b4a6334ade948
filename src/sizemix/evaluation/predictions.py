"""What a network said of every image of a split at every size: all figures of accuracy come from this."""

import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sizemix.errors import UserError
from sizemix.runs.atomic import write_atomically


@dataclass(frozen=True)
class Answers:
    """One row a size, one column an image.

    Attributes:
        predicted: (sizes, images) int32, the most probable class.
        confidence: (sizes, images) float32, its softmax probability.
        loss: (sizes, images) float32, cross-entropy.
        in_top5: (sizes, images) bool, whether the target is among the five most probable classes.
    """

    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    in_top5: NDArray[np.bool_]


@dataclass(frozen=True)
class Predictions:
    """Of one split at several sizes.

    Attributes:
        image_sizes: sides in pixels.
        targets: (images,) int32, the true classes.
        image_digest: the same for the same images in the same order.
        plain: with the statistics of training.
        recalibrated: with batch norms recalibrated for each size; None where the network has none.
    """

    image_sizes: tuple[int, ...]
    targets: NDArray[np.int32]
    image_digest: str
    plain: Answers
    recalibrated: Answers | None

    @property
    def best(self) -> Answers:
        """Recalibrated where there is a choice: what the network is deployed with."""
        return self.plain if self.recalibrated is None else self.recalibrated

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(sizes, images): whether the best answer is right."""
        right: NDArray[np.bool_] = self.best.predicted == self.targets
        return right

    def save(self, path: Path) -> None:
        """As a compressed .npz file: image_sizes, targets, image_digest, and the fields of the best answers.

        Where the network has batch norms, those with the statistics of training are there too, with the suffix
        _training_statistics.
        """
        arrays = {name: np.asarray(getattr(self, name)) for name in ("image_sizes", "targets", "image_digest")}
        arrays |= {name: getattr(self.best, name) for name in _ANSWERS}
        if self.recalibrated is not None:
            arrays |= {f"{name}{_PLAIN}": getattr(self.plain, name) for name in _ANSWERS}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomically(path, lambda file: file.write(buffer.getvalue()))

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads what save has written; nothing in the file is unpickled.

        Raises:
            UserError: the file is not there, damaged, or something else.
        """
        try:
            with path.open("rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
            best = Answers(**{name: arrays[name] for name in _ANSWERS})
            plain = Answers(**{name: arrays[name + _PLAIN] for name in _ANSWERS}) if "loss" + _PLAIN in arrays else None
            found = cls(
                tuple(arrays["image_sizes"].tolist()),
                arrays["targets"],
                str(arrays["image_digest"]),
                plain or best,
                best if plain is not None else None,
            )
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"expected predictions that sizemix has written, got {path} ({type(error).__name__}: {error}); "
                "run `sizemix evaluate` again."
            ) from error
        found._check(path)
        return found

    def _check(self, path: Path) -> None:
        shape = (len(self.image_sizes), *self.targets.shape)
        for answers in (self.plain, self.best):
            if self.targets.ndim != 1 or any(getattr(answers, name).shape != shape for name in _ANSWERS):
                raise UserError(f"{path}: expected arrays of {shape}, got others; run `sizemix evaluate` again.")


_ANSWERS = tuple(field.name for field in fields(Answers))
_PLAIN = "_training_statistics"
