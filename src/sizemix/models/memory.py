"""Notices before anything trains that the largest step does not fit into memory."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from sizemix.errors import UserError
from sizemix.limits import available_bytes

_OPTIMIZER_STATES = 2  # AdamW's moments; momentum SGD keeps one
_BUFFERS = 1.25  # what libraries and the allocator add to the saved tensors, see estimated_bytes
_GIB = 2**30


def check_memory(
    net: nn.Module,
    *,
    image_sizes: Mapping[int, int],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Tries the step with the most pixels; leaves the network, the random state and the gradients as they are.

    On a CUDA device a copy of the network really runs the step, beside as much memory as the optimizer will keep. On
    the CPU, where the system would kill the process, the need is estimated (estimated_bytes) and compared with the
    memory that is free, in a container with what its limit leaves.

    Args:
        net: the network, on any device.
        image_sizes: image_size to the images of one local micro-batch, copies counted.
        device: where it will train.
        autocast: makes the context of the run's precision.

    Raises:
        UserError: the step does not fit.
    """
    image_size = max(image_sizes, key=lambda size: size**2 * image_sizes[size])
    num_images = image_sizes[image_size]
    needed = _failure(net, image_size, num_images, device=device, autocast=autocast)
    if needed is not None:
        raise UserError(
            f"recipe.base_batch_size: a step of {num_images} images of {image_size} px needs more memory than the "
            f"{device.type} has ({needed}); lower recipe.base_batch_size, raise trainer.accumulate_grad_batches, or "
            "choose smaller sizes."
        )


def step_fits(
    net: nn.Module,
    image_size: int,
    num_images: int,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> bool:
    """Whether a step of one local micro-batch fits into memory; tried or estimated as check_memory does."""
    return _failure(net, image_size, num_images, device=device, autocast=autocast) is None


def estimated_bytes(net: nn.Module, image_size: int, num_images: int) -> int:
    """What a training step keeps in memory beyond the network itself, from shapes alone, in full precision.

    Counts what the forward pass saves for the backward pass and a quarter more for buffers and fragments, the gradients
    and two optimizer states a parameter. Takes 0.2 s for resnet50.

    Measured: the estimate over the growth of a process's peak memory in two real steps, one thread of an AMD EPYC,
    torch 2.11. resnet50 at 224 px, batch 8: 1.03 with AdamW (1112 MiB over 1082), 1.22 with momentum SGD; swin_tiny,
    efficientnet_b0, vit_tiny and convnext_atto with AdamW: 0.91 to 1.23; resnet20_cifar at 32 px, batch 256: 0.70.
    """
    shapes_only = copy.deepcopy(net).to("meta").train()
    trained = sum(_size(parameter) for parameter in net.parameters() if parameter.requires_grad)
    own = {_storage(tensor)._cdata for tensor in (*shapes_only.parameters(), *shapes_only.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is given twice

    def note(tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        _loss(shapes_only, torch.empty(num_images, 3, image_size, image_size, device="meta"))
    activations = sum(storage.nbytes() for storage in saved.values())
    return int(_BUFFERS * activations) + trained + optimizer_bytes(net)


def optimizer_bytes(net: nn.Module) -> int:
    """What an optimizer keeps of a network's parameters that train: two states of each, as AdamW's moments."""
    return _OPTIMIZER_STATES * sum(_size(parameter) for parameter in net.parameters() if parameter.requires_grad)


def _failure(
    net: nn.Module,
    image_size: int,
    num_images: int,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> str | None:
    if device.type == "cuda":
        return _trial_failure(net, image_size, num_images, device=device, autocast=autocast)
    return _shortage(estimated_bytes(net, image_size, num_images))


def _shortage(needed: int) -> str | None:
    available = available_bytes()
    if needed <= available:
        return None
    return f"about {needed / _GIB:.1f} GiB of {available / _GIB:.1f} GiB that are free"


def _trial_failure(
    net: nn.Module,
    image_size: int,
    num_images: int,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> str | None:
    free, _ = torch.cuda.mem_get_info(device)
    try:
        with torch.random.fork_rng([device]):
            _trial(net, image_size, num_images, device=device, autocast=autocast)
    except torch.cuda.OutOfMemoryError:
        return f"{free / _GIB:.1f} GiB were free"
    finally:
        torch.cuda.empty_cache()
    return None


def _trial(
    net: nn.Module,
    image_size: int,
    num_images: int,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    twin = copy.deepcopy(net).to(device).train()
    trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    states = [torch.empty_like(parameter) for parameter in trained for _ in range(_OPTIMIZER_STATES)]
    images = torch.randn(num_images, 3, image_size, image_size, device=device)
    with autocast():
        loss = _loss(twin, images.contiguous(memory_format=torch.channels_last))
    torch.autograd.backward(loss)
    del states


def _loss(net: nn.Module, images: Tensor) -> Tensor:
    return F.cross_entropy(net(images), torch.zeros(len(images), dtype=torch.long, device=images.device))


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
