"""Any timm network by name, and the proof that it takes the sizes a run will ask of it."""

import copy
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sizemix import models as models  # registers sizemix's own networks with timm
from sizemix.errors import UserError


def build_backbone(
    name: str, *, num_classes: int, drop_path_rate: float = 0.0, kwargs: Mapping[str, Any] | None = None
) -> nn.Module:
    """A timm network with untrained weights.

    Args:
        name: name in timm's registry, sizemix's own networks included.
        num_classes: outputs.
        drop_path_rate: stochastic depth; 0 does not ask the network for it.
        kwargs: more arguments of the network, such as dynamic_img_size.

    Raises:
        UserError: an unknown name, or an argument the network does not take.
    """
    if not timm.is_model(name):
        similar = get_close_matches(name, timm.list_models(), n=4)
        hint = f"did you mean {', '.join(similar)}?" if similar else "timm.list_models() lists them."
        raise UserError(f"model.name: expected the name of a timm model, got {name!r}; {hint}")
    arguments = dict(kwargs or {})
    if drop_path_rate:
        arguments["drop_path_rate"] = drop_path_rate
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"model: {name} cannot be built with {arguments or 'its defaults'}: {reason}.") from error
    return model


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
    shapes_only = copy.deepcopy(model).to("meta").train()
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


def _flops_at(model: nn.Module, size: int) -> float:
    num_images = 2  # batch norm wants more than one value a channel where the features shrink to 1 x 1
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(torch.empty(num_images, 3, size, size, device="meta"))
    return 3 * counter.get_total_flops() / num_images


def _refusal(name: str, failed: Mapping[int, str], *, accepted: list[int]) -> str:
    size, reason = next(iter(failed.items()))
    remedy = (
        f"it takes {accepted}: set sizes.image_sizes and evaluation.eval_sizes to such sizes"
        if accepted
        else "set sizes.image_sizes, evaluation.eval_sizes and data.base_size to sizes it takes"
    )
    if "match" in reason:  # timm's transformers check the size unless told otherwise
        remedy += ", or try +model.kwargs.dynamic_img_size=true (ViT) or +model.kwargs.strict_img_size=false (Swin)"
    return f"{name} does not take images of {list(failed)} px ({size}: {reason[:200]}); {remedy}."
