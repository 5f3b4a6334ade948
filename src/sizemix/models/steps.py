"""A training step on random images, as it is tried for its memory and measured for its time."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Autocast = Callable[[], AbstractContextManager[object]]  # makes the context of a run's precision


def random_images(num_images: int, image_size: int, device: torch.device) -> Tensor:
    """Images (num_images, 3, image_size, image_size), float, in the layout of training."""
    images = torch.randn(num_images, 3, image_size, image_size, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def forward_and_backward(net: nn.Module, images: Tensor, *, autocast: Autocast) -> None:
    """Leaves gradients in the network."""
    with autocast():
        loss = loss_of(net, images)
    torch.autograd.backward(loss)


def loss_of(net: nn.Module, images: Tensor) -> Tensor:
    """The loss of taking all images for the first class."""
    return F.cross_entropy(net(images), torch.zeros(len(images), dtype=torch.long, device=images.device))
