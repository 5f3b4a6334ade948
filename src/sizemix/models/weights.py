"""Trained weights, from timm's hub or from a file, put into a network with a head of the wanted size."""

import argparse
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import timm
import torch
from huggingface_hub import constants as hub_constants
from safetensors import SafetensorError
from timm.models import clean_state_dict, resolve_pretrained_cfg
from torch import Tensor, nn

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder

_NESTED_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")  # timm's, averaged weights first
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_KINDS = "a .safetensors, .pth, .pt, .bin or .ckpt file, a folder with config.json and model.safetensors, or a run"

Create = Callable[..., nn.Module]


@dataclass(frozen=True)
class Weights:
    """A network's weights as a file holds them.

    Attributes:
        source: where they were read.
        tensors: by name.
        architecture: the model's name where the file tells it.
        preprocessing: entries for timm's pretrained_cfg, such as mean and crop_pct, where the file tells them.
    """

    source: Path
    tensors: Mapping[str, Tensor]
    architecture: str | None
    preprocessing: Mapping[str, Any]


def with_published_weights(create: Create, *, name: str, num_classes: int) -> nn.Module:
    """A network with timm's published weights; the head is new where they have other classes.

    Args:
        create: builds the network; takes timm.create_model's remaining arguments.
        name: in timm's registry.
        num_classes: outputs.

    Raises:
        UserError: there are no published weights, or they cannot be fetched.
    """
    remedy = "give model.checkpoint=FILE, or train from scratch with model.pretrained=false."
    if not timm.is_model_pretrained(name):
        raise UserError(f"model.pretrained: timm has no published weights for {name}; {remedy}")
    try:
        with _no_retries_without_a_network():
            return create(pretrained=True, num_classes=num_classes)
    except OSError as error:  # the hub's and urllib's errors are among them
        raise UserError(
            f"model.pretrained: expected to download {name}'s weights, got {_reason(error)}; {remedy}"
        ) from error


def with_checkpoint(create: Create, weights: Weights, *, name: str, num_classes: int) -> nn.Module:
    """A network with a file's weights; the head is the file's where the number of classes is the same, else new.

    The weights are handed to timm as if it had published them, so that its own conversions of older and foreign
    formats apply.

    Args:
        create: builds the network; takes timm.create_model's remaining arguments.
        weights: what the file holds.
        name: in timm's registry.
        num_classes: outputs.

    Raises:
        UserError: the weights are another network's.
    """
    failure: Exception | None = None
    for classes in _classes_in(weights, name):
        overlay = {"state_dict": dict(weights.tensors), "num_classes": classes, "label_offset": None}
        try:
            net = create(pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay)
        except Exception as error:  # whatever timm's conversions raise on names and shapes they do not expect
            failure = error
            continue
        configuration: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
        del configuration["state_dict"]  # a second copy of all weights
        configuration.update(weights.preprocessing)
        if classes != num_classes:
            net.reset_classifier(num_classes)  # type: ignore[operator]
        return net
    assert failure is not None
    untrained = create(num_classes=classes)  # raises where the arguments are at fault
    raise UserError(_mismatch(weights, untrained, name=name, failure=failure)) from failure


def read_weights(path: str | Path) -> Weights:
    """Reads a checkpoint; code in it is never run.

    Args:
        path: a .safetensors file; a .pth, .pt or .bin file with the weights or with a usual key that holds them; a
            .ckpt file or the folder of a run of ours; a folder in timm's style, config.json and model.safetensors.

    Raises:
        UserError: there is nothing of the kind at the path.
    """
    file = _file_at(Path(path))
    contents = _contents(file)
    architecture = contents.get("architecture")
    ours = isinstance(architecture, Mapping) and isinstance(contents.get("state_dict"), Mapping)
    weights = _of_a_run(file, contents) if ours else _of_anyone(file, contents)
    if not weights.tensors or not all(isinstance(value, Tensor) for value in weights.tensors.values()):
        raise UserError(
            f"model.checkpoint: expected weights by name in {file}, got {_few(list(map(str, contents)))}; "
            "save the network's state_dict()."
        )
    return weights


def num_outputs(weights: Weights, name: str) -> int:
    """Outputs of the head that a file holds; of a format that only timm knows, as many as timm's own weights have.

    Raises:
        UserError: the file holds no head.
    """
    outputs = _classes_in(weights, name)[0]
    if not outputs:
        raise UserError(f"model.checkpoint: expected weights with a head, got {weights.source} without; give others.")
    return outputs


def _file_at(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"model.checkpoint: expected {_KINDS}, got {path}, which does not exist.")
    if path.is_file():
        return path
    run = RunFolder(path)
    if run.config_file.is_file():
        if not run.last_checkpoint.is_file():
            raise UserError(f"model.checkpoint: the run {path} has no {run.last_checkpoint.name} yet; give another.")
        return run.last_checkpoint
    files = [path / name for name in _FOLDER_FILES if (path / name).is_file()]
    if not files:
        raise UserError(f"model.checkpoint: expected {_KINDS}, got the folder {path} with neither; give a file.")
    return files[0]


def _contents(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training script saves its arguments
            contents = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.checkpoint: expected plain weights, got {file}, which is no checkpoint or holds code, and code in "
            "a checkpoint is never run; save the network's state_dict() alone."
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"model.checkpoint: expected a whole checkpoint, got {file}, which cannot be read ({_reason(error)}); "
            "copy or download it again."
        ) from error
    if not isinstance(contents, Mapping):
        raise UserError(
            f"model.checkpoint: expected weights by name in {file}, got a {type(contents).__name__}; "
            "save the network's state_dict()."
        )
    return contents


def _of_a_run(file: Path, contents: Mapping[str, Any]) -> Weights:
    """Averaged weights where the run kept them."""
    state = contents["state_dict"]
    prefix = "averaged." if any(name.startswith("averaged.") for name in state) else "net."
    tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    preprocessing = dict(contents.get("preprocessing") or {})
    if preprocessing:
        preprocessing["crop_pct"] = preprocessing.pop("crop_ratio")  # timm's name
    return Weights(file, tensors, contents["architecture"].get("name"), preprocessing)


def _of_anyone(file: Path, contents: Mapping[str, Any]) -> Weights:
    nested = next((contents[key] for key in _NESTED_KEYS if isinstance(contents.get(key), Mapping)), contents)
    architecture, preprocessing = _told_beside(file)
    return Weights(file, clean_state_dict(dict(nested)), architecture, preprocessing)


def _told_beside(file: Path) -> tuple[str | None, dict[str, Any]]:
    """The model's name and preprocessing from timm's config.json in the same folder."""
    config = file.parent / "config.json"
    if file.name not in _FOLDER_FILES or not config.is_file():
        return None, {}
    told = json.loads(config.read_text())
    source = told.get("pretrained_cfg", told)
    wanted = ("mean", "std", "interpolation", "crop_pct")
    return told.get("architecture"), {key: source[key] for key in wanted if key in source}


def _classes_in(weights: Weights, name: str) -> tuple[int, ...]:
    """Outputs of the file's head; where timm's name of the head is not found, what may be there."""
    configuration = resolve_pretrained_cfg(name)
    classifier = configuration.classifier
    head = weights.tensors.get(f"{classifier[0] if isinstance(classifier, tuple) else classifier}.weight")
    if head is not None:
        return (len(head),)
    return (configuration.num_classes, 0)  # a foreign format that timm renames; a file without a head


def _mismatch(weights: Weights, untrained: nn.Module, *, name: str, failure: Exception) -> str:
    expected = untrained.state_dict()
    found = weights.tensors
    groups = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [key for key in found if key in expected and found[key].shape != expected[key].shape],
    }
    differences = [f"{group} {_few(keys)}" for group, keys in groups.items() if keys]
    owner = f"those of {weights.architecture}" if weights.architecture else "others"
    return (
        f"model.checkpoint: expected the weights of {name}, got {owner} in {weights.source} "
        f"({'; '.join(differences) or _reason(failure)}); set model.name and model.kwargs to the checkpoint's."
    )


@contextmanager
def _no_retries_without_a_network() -> Iterator[None]:
    """Asks the hub once; where it does not answer, only its cache is read (it would try twelve times, 46 s)."""
    offline = hub_constants.HF_HUB_OFFLINE
    try:
        huggingface_hub.get_session().head(hub_constants.ENDPOINT, timeout=5)
    except Exception:  # the session's library is the hub's own affair
        hub_constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub_constants.HF_HUB_OFFLINE = offline


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def _reason(error: Exception) -> str:
    """The first sentence of what a library says."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0][:160].rstrip(".")
