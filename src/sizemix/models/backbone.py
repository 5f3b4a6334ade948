"""Any timm network by name, what it was trained to see, and the proof that it takes the sizes of a run."""

import copy
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sizemix import models as models  # registers sizemix's own networks with timm
from sizemix.data.preprocessing import Preprocessing
from sizemix.errors import UserError
from sizemix.models.weights import read_weights, with_checkpoint, with_published_weights

# timm's modules whose every network takes dynamic_img_size (each entry point was probed with timm 1.0.31). It is safe:
# no parameter changes, and at the native size the outputs stay the same. ViT, DeiT and EVA then resample their position
# embedding to the grid at hand, and Swin (where it means strict_img_size=False) makes its attention masks for it.
_TAKE_DYNAMIC_SIZES = {
    "deit",
    "eva",
    "swin_transformer",
    "swin_transformer_v2",
    "swin_transformer_v2_cr",
    "vision_transformer",
    "vision_transformer_hybrid",
}


def build_backbone(
    name: str,
    *,
    num_classes: int,
    drop_path_rate: float = 0.0,
    kwargs: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """A timm network; transformers are told to take every size.

    Args:
        name: name in timm's registry, sizemix's own networks included.
        num_classes: outputs.
        drop_path_rate: stochastic depth; 0 does not ask the network for it.
        kwargs: more arguments of the network, such as global_pool.
        pretrained: with timm's published weights.
        checkpoint: a file or folder of weights; weights.read_weights says of which kinds.

    Raises:
        UserError: an unknown name, an argument the network does not take, or weights that are not there or another's.
    """
    if not timm.is_model(name):
        similar = get_close_matches(name, timm.list_models(), n=4)
        hint = f"did you mean {', '.join(similar)}?" if similar else "timm.list_models() lists them."
        raise UserError(f"model.name: expected the name of a timm model, got {name!r}; {hint}")
    if pretrained and checkpoint is not None:
        raise UserError(
            f"model: expected pretrained=true or a checkpoint, got both (checkpoint={checkpoint}); leave one out."
        )
    arguments = _arguments(name, drop_path_rate=drop_path_rate, kwargs=kwargs or {})
    create = partial(timm.create_model, name, **arguments)
    try:
        if checkpoint is not None:
            return with_checkpoint(create, read_weights(checkpoint), name=name, num_classes=num_classes)
        if pretrained:
            return with_published_weights(create, name=name, num_classes=num_classes)
        untrained: nn.Module = create(num_classes=num_classes)
        return untrained
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(f"model: {name} cannot be built with {arguments or 'its defaults'}: {reason}.") from error


def preprocessing_of(net: nn.Module) -> Preprocessing:
    """What a timm network was trained to see; a checkpoint's own preprocessing where it was built from one."""
    config: dict[str, Any] = resolve_model_data_config(net)  # type: ignore[no-untyped-call]
    smooth = config["interpolation"] in ("bicubic", "lanczos")  # torch resizes tensors in these two ways
    return Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bicubic" if smooth else "bilinear",
        crop_ratio=config["crop_pct"],
    )


def _arguments(name: str, *, drop_path_rate: float, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(kwargs)
    if drop_path_rate:
        arguments["drop_path_rate"] = drop_path_rate
    told = "dynamic_img_size" in kwargs or "strict_img_size" in kwargs
    if timm.models.is_model_in_modules(name, _TAKE_DYNAMIC_SIZES) and not told:
        arguments["dynamic_img_size"] = True
    return arguments


def training_flops(model: nn.Module, image_sizes: Iterable[int], *, name: str) -> dict[int, float]:
    """Proves that a network takes every size, and measures what training on an image costs there.

    Runs the forward pass on shapes alone (the meta device), so neither memory nor time grows with the size. The
    backward pass is taken as twice the forward: torch's counter takes a grouped convolution's backward for a dense
    one (for efficientnet_b0 it counts 14 times too much).

    Args:
        model: the network; left as it is.
        image_sizes: sides in pixels.
        name: what messages call the network.

    Returns:
        FLOPs of the forward and backward pass of one image at each size (a multiply-add is two).

    Raises:
        UserError: sizes the network does not take, or a cost that does not grow with the size.
    """
    # Without gradients: torch's counter fails on a module that is given a view of a parameter, as in attention pooling.
    shapes_only = copy.deepcopy(model).to("meta").train().requires_grad_(False)
    for module in shapes_only.modules():
        if isinstance(module, nn.SyncBatchNorm):  # in training it wants a GPU, and other ranks
            module.eval()
    flops: dict[int, float] = {}
    failed: dict[int, str] = {}
    for size in sorted(image_sizes):
        try:
            flops[size] = _flops_at(shapes_only, size)
        except Exception as error:  # whatever a third-party network raises on a shape it cannot take
            failed[size] = " ".join(str(error).split()).rstrip(".")
    if failed:
        raise UserError(_refusal(name, failed, accepted=sorted(flops)))
    low, high = min(flops), max(flops)
    clearly_apart = high - low >= 32 or high >= 1.5 * low  # strides may round nearby sizes to the same maps
    if clearly_apart and flops[low] >= flops[high]:
        raise UserError(
            f"{name} costs the same at {low} and {high} px: it rescales its input, so image sizes save nothing; "
            "choose a model whose cost follows the size."
        )
    return flops


def check_logits(model: nn.Module, image_size: int, *, num_classes: int, name: str) -> None:
    """Proves that a network, maybe a user's own, gives a logit for each class; on shapes alone, as training_flops does.

    Args:
        model: the network; left as it is.
        image_size: a side in pixels that it takes.
        num_classes: of the images.
        name: what messages call the network.

    Raises:
        UserError: it gives something else.
    """
    shapes_only = copy.deepcopy(model).to("meta").train()
    with torch.no_grad():
        logits = shapes_only(_two_images(image_size))
    given = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
    expected = (2, num_classes)
    if given != f"shape {expected}":
        raise UserError(
            f"model: expected logits of shape {expected} of 2 images, one for each of {num_classes} classes, got "
            f"{given} from {name}; build it for the num_classes that it is called with."
        )


def _flops_at(model: nn.Module, size: int) -> float:
    images = _two_images(size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(images)
    return 3 * counter.get_total_flops() / len(images)


def _two_images(size: int) -> torch.Tensor:
    """Batch norm wants more than one value a channel where the features shrink to 1 x 1."""
    return torch.empty(2, 3, size, size, device="meta")


def _refusal(name: str, failed: Mapping[int, str], *, accepted: list[int]) -> str:
    size, reason = next(iter(failed.items()))
    remedy = (
        f"it takes {accepted}: set sizes.image_sizes and evaluation.eval_sizes to such sizes"
        if accepted
        else "choose sizes it takes, for a run by sizes.image_sizes, evaluation.eval_sizes and data.base_size"
    )
    return f"{name} does not take images of {list(failed)} px ({size}: {reason[:200].rstrip('.')}); {remedy}."
