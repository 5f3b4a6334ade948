"""Compiles a network once for each image size, with CUDA graphs where that is asked for."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from torch import nn

from sizemix.errors import UserError
from sizemix.training.instantiate import WITH_CUDA_GRAPHS


def compile_for_sizes(net: nn.Module, image_sizes: Collection[int], *, cuda_graphs: bool) -> None:
    """Compiles a network in place, one static shape for each size.

    torch stops compiling silently after a few shapes; the limit is raised to what the sizes need (each in train and
    eval mode), and passing it is an error.

    Args:
        net: the network; the names of its weights stay.
        image_sizes: pixels, those of training and of validation.
        cuda_graphs: replay a forward and a backward pass of each shape, with one launch instead of hundreds. What a
            pass returns is overwritten by the next one; losses and figures are made of it before.
    """
    import torch._dynamo  # costs a second, so only where it is asked for

    torch._dynamo.config.recompile_limit = 8 + 2 * len(image_sizes)
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    net.compile(dynamic=False, mode=WITH_CUDA_GRAPHS if cuda_graphs else None)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, compiled networks run as they are, and hold no memory of CUDA graphs.

    The final evaluation meets each size in a few batches, which compiling would not pay for.
    """
    torch.compiler.reset()
    with torch.compiler.set_stance("force_eager"):
        yield


def check_cuda_graphs(trainer: pl.Trainer) -> None:
    """Refuses what CUDA graphs cannot do.

    The gradients of a replayed pass lie in memory of the graph. A second micro-batch would overwrite the gradients of
    the first and then add to them, silently (pytorch issues 96693 and 169545).

    Raises:
        UserError: another device than a CUDA device; micro-batches that are accumulated.
    """
    device = trainer.strategy.root_device.type
    if device != "cuda":
        raise UserError(f"model.compile: expected a CUDA device for {WITH_CUDA_GRAPHS}, got {device}; use true.")
    if trainer.accumulate_grad_batches > 1:
        raise UserError(
            f"model.compile: expected trainer.accumulate_grad_batches=1 for {WITH_CUDA_GRAPHS}, whose gradients a "
            f"second micro-batch would overwrite, got {trainer.accumulate_grad_batches}; use true."
        )
