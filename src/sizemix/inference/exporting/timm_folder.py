"""--format timm: a folder as on the Hugging Face hub, which timm.create_model loads."""

import json
from pathlib import Path

import timm
import torch
from timm.models._hub import save_for_hf

from sizemix.errors import UserError
from sizemix.inference.exporting.checking import Checked, check
from sizemix.inference.exporting.config import CONFIG, configuration
from sizemix.inference.exporting.subject import Subject

_OF_OTHER_WEIGHTS = ("tag", "license", "pool_size", "paper_ids", "notes", "origin_url")  # of those timm publishes


def write_timm(subject: Subject, folder: Path) -> Checked:
    """Writes model.safetensors and config.json.

    Raises:
        UserError: timm does not build such a network, or what it builds disagrees.
    """
    if not subject.of_timm:
        raise UserError(
            f"--format timm: expected a network that timm builds, got {subject.architecture}; take --format torch or "
            "onnx, which need no code."
        )
    save_for_hf(subject.net, str(folder), safe_serialization=True)  # with the arguments that build the network
    timms = json.loads((folder / CONFIG).read_text())
    ours = configuration(subject, image_sizes=subject.image_sizes)
    kept = {name: value for name, value in timms["pretrained_cfg"].items() if name not in _OF_OTHER_WEIGHTS}
    ours["pretrained_cfg"] = kept | ours["pretrained_cfg"]
    (folder / CONFIG).write_text(json.dumps(timms | ours, indent=2) + "\n")
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        return check(subject.net, loaded, subject.image_sizes, name="timm's folder")


def loading(subject: Subject, folder: Path) -> str:
    """How it is loaded, in Python."""
    create = f'net = timm.create_model("local-dir:{folder}", pretrained=True).eval()'
    if not subject.registered_by_sizemix:
        return f"import timm\n{create}"
    remark = f"# timm alone knows no {subject.architecture}; --format onnx and torch need no code"
    return f"import timm, sizemix.models  {remark}\n{create}"
