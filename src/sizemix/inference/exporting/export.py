"""A run's network at one size as a folder that needs no sizemix: weights, config.json and a model card."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from sizemix.inference.exporting import onnx_file, timm_folder, torch_program
from sizemix.inference.exporting.card import card
from sizemix.inference.exporting.checking import Checked
from sizemix.inference.exporting.placing import check_free, placed
from sizemix.inference.exporting.subject import Subject, subject_of

Format = Literal["timm", "onnx", "torch"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[Format, Callable[[Subject, Path], Checked]] = {
    "timm": timm_folder.write_timm,
    "onnx": onnx_file.write_onnx,
    "torch": torch_program.write_program,
}


@dataclass(frozen=True)
class Exported:
    """What has been written.

    Attributes:
        folder: where.
        files: names in it.
        image_size: side in pixels that it was made for.
        checked: how it agrees with the run's network, and at which sizes.
        loading: Python that loads it.
    """

    folder: Path
    files: tuple[str, ...]
    image_size: int
    checked: Checked
    loading: str


def export(
    run: str | Path,
    *,
    format: Format,
    image_size: int | None = None,
    out: Path | None = None,
    trust_target: bool = False,
) -> Exported:
    """Writes a run's network with the batch-norm statistics of a size, and checks that the files answer as it does.

    Args:
        run: its folder.
        format: timm (a folder as on the hub), onnx, or torch (a program of torch.export).
        image_size: side in pixels; None: the one that the run advised.
        out: the folder to write; None: export/FORMAT-SIZE in the run's.
        trust_target: see sizemix.load.

    Raises:
        UserError: no finished run, a size that it has no statistics for, a network that the format cannot hold, or a
            folder that holds something else.
    """
    subject = subject_of(run, image_size=image_size, trust_target=trust_target)
    folder = out or Path(run) / "export" / f"{format}-{subject.image_size}"
    check_free(folder)

    def write(into: Path) -> Checked:
        checked = _WRITERS[format](subject, into)
        refused = tuple(size for size in subject.image_sizes if size not in checked.image_sizes)
        checked = replace(checked, refused=refused)
        text = card(subject, checked=checked, loading=_loading(subject, format, Path()), library=_library(format))
        (into / "README.md").write_text(text)
        return checked

    checked = placed(folder, write)
    files = tuple(sorted(path.name for path in folder.iterdir()))
    return Exported(folder, files, subject.image_size, checked, _loading(subject, format, folder))


def _loading(subject: Subject, format: Format, folder: Path) -> str:
    if format == "timm":
        return timm_folder.loading(subject, folder)
    return onnx_file.loading(folder) if format == "onnx" else torch_program.loading(folder)


def _library(format: Format) -> str:
    return {"timm": "timm", "onnx": "onnx", "torch": "pytorch"}[format]
