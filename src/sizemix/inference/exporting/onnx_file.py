"""--format onnx: model.onnx, with the preprocessing and the class names in its metadata."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

from sizemix.errors import UserError
from sizemix.inference.exporting.checking import Checked, check
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
    found = traced(subject)
    told = configuration(subject, fixed_input_size=found.fixed_input_size)
    program = _converted(found, subject.architecture)
    flat = {name: value for name, value in told.items() if name != "pretrained_cfg"} | told["pretrained_cfg"]
    program.model.metadata_props.update(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}
    )
    program.save(folder / ONNX)
    (folder / CONFIG).write_text(json.dumps(told, indent=2) + "\n")
    return _checked(subject, folder / ONNX, found.checked.image_sizes)


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


def _checked(subject: Subject, file: Path, image_sizes: tuple[int, ...]) -> Checked:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def exported(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {_IMAGES: images.numpy()})
        return torch.from_numpy(logits)

    return check(subject.net, exported, image_sizes, name=ONNX)
