"""Notices before anything trains that the largest step, or the largest test batch, does not fit into memory."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sizemix.errors import UserError
from sizemix.limits import available_bytes
from sizemix.models.activations import peak_bytes, saved_bytes
from sizemix.models.steps import Autocast, forward_and_backward, random_images

_OPTIMIZER_STATES = 2  # AdamW's moments; momentum SGD keeps one
_BUFFERS = 1.25  # what libraries and the allocator add to the saved tensors, see estimated_bytes
_GIB = 2**30
_TOO_LITTLE_MEMORY = ("out of memory", "ALLOC_FAILED", "NOT_ENOUGH_WORKSPACE", "unable to find an engine")


def check_memory(net: nn.Module, *, image_sizes: Mapping[int, int], device: torch.device, autocast: Autocast) -> None:
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
    image_size, num_images = _most_pixels(image_sizes)
    needed = _failure_of_step(net, image_size, num_images, device=device, autocast=autocast)
    if needed is not None:
        raise UserError(
            f"recipe.base_batch_size: a step of {num_images} images of {image_size} px needs more memory than the "
            f"{device.type} has ({needed}); lower recipe.base_batch_size, raise trainer.accumulate_grad_batches, or "
            "choose smaller sizes."
        )


def check_evaluation_memory(
    net: nn.Module, *, image_sizes: Mapping[int, int], device: torch.device, autocast: Autocast
) -> None:
    """Tries the forward pass with the most pixels, as check_memory tries the step.

    Args:
        net: the network, on any device.
        image_sizes: image_size to the images of one batch of validation, test or recalibration.
        device: where it will be evaluated.
        autocast: makes the context of the run's precision.

    Raises:
        UserError: it does not fit.
    """
    image_size, num_images = _most_pixels(image_sizes)
    needed = _failure(
        device,
        estimate=lambda: evaluation_bytes(net, image_size, num_images),
        trial=lambda: _try_forward(net, image_size, num_images, device=device, autocast=autocast),
    )
    if needed is not None:
        raise UserError(
            f"evaluation: a batch of {num_images} images of {image_size} px needs more memory than the "
            f"{device.type} has ({needed}); lower evaluation.batch_size and recipe.base_batch_size, "
            "with which batch norms are recalibrated, or choose smaller evaluation.eval_sizes and evaluation.val_size."
        )


def evaluation_bytes(net: nn.Module, image_size: int, num_images: int) -> int:
    """What a forward pass of evaluation needs beyond the network itself, from shapes alone, in full precision."""
    return int(_BUFFERS * peak_bytes(net, image_size, num_images))


def step_fits(net: nn.Module, image_size: int, num_images: int, *, device: torch.device, autocast: Autocast) -> bool:
    """Whether a step of one local micro-batch fits into memory; tried or estimated as check_memory does."""
    return _failure_of_step(net, image_size, num_images, device=device, autocast=autocast) is None


def estimated_bytes(net: nn.Module, image_size: int, num_images: int) -> int:
    """What a training step keeps in memory beyond the network itself, from shapes alone, in full precision.

    Counts what the forward pass saves for the backward pass and a quarter more for buffers and fragments, the gradients
    and two optimizer states a parameter. Takes 0.2 s for resnet50.

    Measured: the estimate over the growth of a process's peak memory in two real steps, one thread of an AMD EPYC,
    torch 2.11. resnet50 at 224 px, batch 8: 1.03 with AdamW (1112 MiB over 1082), 1.22 with momentum SGD; swin_tiny,
    efficientnet_b0, vit_tiny and convnext_atto with AdamW: 0.91 to 1.23; resnet20_cifar at 32 px, batch 256: 0.70.
    """
    trained = sum(_size(parameter) for parameter in net.parameters() if parameter.requires_grad)
    return int(_BUFFERS * saved_bytes(net, image_size, num_images)) + trained + optimizer_bytes(net)


def optimizer_bytes(net: nn.Module) -> int:
    """What an optimizer keeps of a network's parameters that train: two states of each, as AdamW's moments."""
    return _OPTIMIZER_STATES * sum(_size(parameter) for parameter in net.parameters() if parameter.requires_grad)


def _most_pixels(image_sizes: Mapping[int, int]) -> tuple[int, int]:
    """The image_size and the number of images of the largest batch."""
    return max(image_sizes.items(), key=lambda item: item[0] ** 2 * item[1])


def _failure_of_step(
    net: nn.Module, image_size: int, num_images: int, *, device: torch.device, autocast: Autocast
) -> str | None:
    return _failure(
        device,
        estimate=lambda: estimated_bytes(net, image_size, num_images),
        trial=lambda: _try_step(net, image_size, num_images, device=device, autocast=autocast),
    )


def _failure(device: torch.device, *, estimate: Callable[[], int], trial: Callable[[], None]) -> str | None:
    """What there is of memory, where it is too little; None: it is enough."""
    if device.type != "cuda":
        return _shortage(estimate())
    free, _ = torch.cuda.mem_get_info(device)
    try:
        with torch.random.fork_rng([device]):
            trial()
    except RuntimeError as error:
        if not _says_too_little_memory(error):
            raise
        return f"{free / _GIB:.1f} GiB were free"
    finally:
        torch.cuda.empty_cache()
    return None


def _says_too_little_memory(error: RuntimeError) -> bool:
    """Whether a CUDA device had too little: torch says so in a class of its own, its libraries only in words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in _TOO_LITTLE_MEMORY)


def _shortage(needed: int) -> str | None:
    available = available_bytes()
    if needed <= available:
        return None
    return f"about {needed / _GIB:.1f} GiB of {available / _GIB:.1f} GiB that are free"


def _try_step(net: nn.Module, image_size: int, num_images: int, *, device: torch.device, autocast: Autocast) -> None:
    twin = copy.deepcopy(net).to(device).train()
    trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    states = [torch.empty_like(parameter) for parameter in trained for _ in range(_OPTIMIZER_STATES)]
    forward_and_backward(twin, random_images(num_images, image_size, device), autocast=autocast)
    del states


def _try_forward(net: nn.Module, image_size: int, num_images: int, *, device: torch.device, autocast: Autocast) -> None:
    twin = copy.deepcopy(net).to(device).eval()
    with autocast(), torch.no_grad():
        twin(random_images(num_images, image_size, device))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
