"""--format onnx: model.onnx, with the preprocessing and the class names in its metadata."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sizemix.errors import UserError
from sizemix.inference.exporting.checking import Checked, agrees, check
from sizemix.inference.exporting.config import CONFIG, configuration
from sizemix.inference.exporting.program import Traced, traced
from sizemix.inference.exporting.subject import Subject

ONNX = "model.onnx"
_IMAGES, _LOGITS = "images", "logits"


def write_onnx(subject: Subject, folder: Path) -> Checked:
    """Writes model.onnx and config.json, and compares with the network by onnxruntime.

    Raises:
        UserError: libraries are missing, there is no ONNX for a part of the network, or the file disagrees.
    """
    _check_libraries()
    found, file = traced(subject), folder / ONNX
    program = _converted(found, subject.architecture)
    program.save(file)
    image_sizes = _image_sizes(subject, file, found)
    told = configuration(subject, image_sizes=image_sizes)
    flat = {name: value for name, value in told.items() if name != "pretrained_cfg"} | told["pretrained_cfg"]
    program.model.metadata_props.update(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
    )
    program.save(file)
    (folder / CONFIG).write_text(json.dumps(told, indent=2) + "\n")
    return check(subject.net, _answering(file), image_sizes, name=ONNX)


def loading(folder: Path) -> str:
    """How it is loaded, in Python."""
    return (
        f'import onnxruntime\nsession = onnxruntime.InferenceSession("{folder / ONNX}")\n'
        f'(logits,) = session.run(None, {{"{_IMAGES}": images}})'
    )


def _check_libraries() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}; pip install sizemix[onnx].") from error


def _converted(found: Traced, architecture: str) -> torch.onnx.ONNXProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's of its own affairs
            program = torch.onnx.export(
                found.program,
                dynamo=True,
                input_names=[_IMAGES],
                output_names=[_LOGITS],
                dynamic_shapes=(dict(found.axes),),
                verbose=False,
            )
    except Exception as error:  # whatever torch raises on what it cannot convert
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"torch cannot write {architecture} as ONNX ({type(error).__name__}: {reason}); take another --format."
        ) from error
    assert program is not None
    return program


def _image_sizes(subject: Subject, file: Path, found: Traced) -> tuple[int, ...]:
    """Sizes at which the file has to agree, as torch's program does, and those at which it happens to.

    Conditions on which torch's program refuses a size are not in the file, which may be right there, or wrong.
    """
    sure = found.checked.image_sizes
    if found.fixed_input_size:
        return sure
    exported = _answering(file)
    return tuple(size for size in subject.image_sizes if size in sure or agrees(subject.net, exported, size))


def _answering(file: Path) -> Callable[[Tensor], Tensor]:
    """Images to logits by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def exported(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {_IMAGES: images.numpy()})
        return torch.from_numpy(logits)

    return exported
