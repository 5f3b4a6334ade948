"""Looks at the configured network: which sizes it takes, what they cost, and how fast it trains."""

import copy
from collections.abc import Mapping, Sequence

import torch
from omegaconf import DictConfig
from timm.data import resolve_model_data_config
from torch import nn

from sizemix.callbacks.memory_check import sharing_ranks
from sizemix.diagnosis.finding import Check, Finding
from sizemix.diagnosis.rates import is_slow, told
from sizemix.diagnosis.setting import Setting
from sizemix.errors import UserError
from sizemix.models.backbone import check_logits, training_flops
from sizemix.models.memory import check_evaluation_memory, check_memory, estimated_bytes
from sizemix.models.speed import StepSpeed, affordable_images, measured_steps
from sizemix.sizes.spending import forward_gflops
from sizemix.training.assembly import trainable_network

_GRIDS = (14, 16)  # pixels of a patch or a stride, of which networks want whole ones
_NEAR = 32  # pixels from a refused size; every network with a stride of up to 32 takes a size that near


def check_network(config: DictConfig, *, num_classes: int) -> Check[nn.Module]:
    """Builds the network as training does, with its weights, frozen where it will not train."""
    net = trainable_network(config, num_classes=num_classes)
    shapes_only = copy.deepcopy(net).to("meta")
    if _takes(shapes_only, config.sizes.base_size):
        check_logits(shapes_only, config.sizes.base_size, num_classes=num_classes, name=_name(config))
    numbers = [parameter.numel() for parameter in net.parameters()]
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    text = f"{_name(config)}, {sum(numbers) / 1e6:.2f} million parameters"
    yield Finding("network", text if trained == sum(numbers) else f"{text}, of which {trained / 1e6:.2f} train")
    return net


def _name(config: DictConfig) -> str:
    return str(config.model.get("name") or config.model._target_)


def check_sizes(setting: Setting, net: nn.Module) -> Check[dict[int, float]]:
    """Which of the training and evaluation sizes the network takes, and the FLOPs of training on an image of each.

    Raises:
        UserError: the network rescales its input.
    """
    evaluation, name = setting.config.evaluation, _name(setting.config)
    sizes = sorted({*setting.shapes, *evaluation.eval_sizes, evaluation.val_size, setting.config.sizes.base_size})
    shapes_only = copy.deepcopy(net).to("meta")
    taken = [size for size in sizes if _takes(shapes_only, size)]
    refused = [size for size in sizes if size not in taken]
    if refused:
        nearest = {size: _nearest_taken(shapes_only, size) for size in refused}
        instead = ", ".join(f"{there or 'none near'} for {size}" for size, there in nearest.items())
        remedy = (
            f"expected sizes that {name} takes, got {_listed(refused)} px; set sizes.image_sizes, "
            f"evaluation.eval_sizes and data.base_size to the nearest that it takes: {instead}."
        )
        text = (
            f"takes {_listed(taken)} px, not {_listed(refused)} px" if taken else f"takes none of {_listed(refused)} px"
        )
        yield Finding("sizes", text, "problem", remedy)
    else:
        yield Finding("sizes", f"takes all: {_listed(taken)} px")
    if not taken:
        return {}
    flops = training_flops(shapes_only, taken, name=name)
    yield Finding(
        "cost",
        "GFLOPs an image, forward: " + ", ".join(f"{forward_gflops(flops[size]):.3g} at {size} px" for size in taken),
    )
    return flops


def _takes(net: nn.Module, image_size: int) -> bool:
    try:
        training_flops(net, [image_size], name="")
    except UserError:
        return False
    return True


def _nearest_taken(net: nn.Module, image_size: int) -> int | None:
    """Tries multiples of common grids nearby, then the size that the network was made for."""
    nearby = range(max(1, image_size - _NEAR), image_size + _NEAR + 1)
    candidates = [size for size in nearby if any(size % grid == 0 for grid in _GRIDS)]
    candidates.sort(key=lambda size: abs(size - image_size))
    made_for: int = resolve_model_data_config(net)["input_size"][-1]  # type: ignore[no-untyped-call]
    return next((size for size in (*candidates, made_for) if _takes(net, size)), None)


def _listed(image_sizes: Sequence[int]) -> str:
    return ", ".join(map(str, image_sizes))


def check_step_memory(setting: Setting, net: nn.Module, image_sizes: Mapping[int, int]) -> Check[bool]:
    """Tries the largest step as training does before it begins; returns True.

    Args:
        setting: the run's.
        net: the network.
        image_sizes: image_size to the images of one local micro-batch, copies counted.

    Raises:
        UserError: it does not fit.
    """
    on_cpu, autocast = setting.device.type == "cpu", setting.trainer.precision_plugin.forward_context
    sharing = sharing_ranks(setting.trainer)
    shared = {size: sharing * num_images for size, num_images in image_sizes.items()}
    check_memory(net, image_sizes=shared, device=setting.device, autocast=autocast)
    largest = max(shared, key=lambda size: size**2 * shared[size])
    text = f"the largest, {shared[largest]} images of {largest} px, fits"
    if on_cpu:
        text += f": about {estimated_bytes(net, largest, shared[largest]) / 2**30:.2f} GiB"
    yield Finding("step", text)
    return True


def check_test_memory(setting: Setting, net: nn.Module, image_sizes: Mapping[int, int]) -> Check[None]:
    """Tries the largest batch of the evaluation as training does before it begins.

    Args:
        setting: the run's.
        net: the network.
        image_sizes: image_size to the images of a batch.

    Raises:
        UserError: it does not fit.
    """
    sharing = sharing_ranks(setting.trainer)
    shared = {size: sharing * num_images for size, num_images in image_sizes.items()}
    check_evaluation_memory(
        net,
        image_sizes=shared,
        device=setting.device,
        autocast=setting.trainer.precision_plugin.forward_context,
    )
    largest = max(shared)
    yield Finding("evaluation", f"{shared[largest]} images of {largest} px fit")


def check_speed(
    setting: Setting, net: nn.Module, image_sizes: Mapping[int, int], *, flops: Mapping[int, float]
) -> Check[dict[int, StepSpeed]]:
    """Measures training steps; on a CPU with fewer images, where a step would take long.

    Args:
        setting: the run's.
        net: the network.
        image_sizes: image_size to the images of one local micro-batch, copies counted.
        flops: of training on one image, by image_size.
    """
    device, autocast = setting.device, setting.trainer.precision_plugin.forward_context
    affordable = affordable_images(image_sizes, flops=flops, device=device)
    speeds = measured_steps(net, affordable, device=device, autocast=autocast)
    rates, remedy = {size: speed.images_per_second for size, speed in speeds.items()}, None
    if is_slow(rates):
        remedy = "expected more than an image a second; use a GPU, a smaller network, or smaller sizes.image_sizes."
    text = f"images/s: {told(rates)}; forward and backward on {device.type}"
    yield Finding("speed", text, "warning" if remedy else "ok", remedy)
    peak = max((speed.peak_bytes for speed in speeds.values() if speed.peak_bytes is not None), default=None)
    if peak is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        yield Finding("GPU memory", f"a step takes up to {peak / 2**30:.1f} of {total / 2**30:.1f} GiB")
    return speeds
