"""Which part of a network trains: all but the chosen part is frozen."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from sizemix.errors import UserError

Part = Literal["head", "head_and_last_norm", "norms"]


@dataclass(frozen=True)
class TrainedPart:
    """A part of a network.

    Attributes:
        parameters: those that train.
        frozen_norms: layers outside it with running statistics: they would move in train mode, so keep these layers in
            eval mode.
    """

    parameters: list[nn.Parameter]
    frozen_norms: list[nn.Module]


def train_only(net: nn.Module, part: Part) -> list[nn.Module]:
    """Freezes every parameter but those of a part, for good.

    Args:
        net: a timm network.
        part: what trains.

    Returns:
        The frozen layers with running statistics, see TrainedPart.

    Raises:
        UserError: what trained_part refuses.
    """
    trained = trained_part(net, part)
    net.requires_grad_(False)
    for parameter in trained.parameters:
        parameter.requires_grad = True
    return trained.frozen_norms


def trained_part(net: nn.Module, part: Part) -> TrainedPart:
    """Finds a part of a network.

    The head is among every part: it is new wherever the images have other classes than the weights came with.

    - head: the classifier.
    - head_and_last_norm: also the last normalisation layer before it, as FixRes adapts a network to another test size
      (Touvron et al. 2019, arXiv 1906.06423, section 3.3).
    - norms: also the scales and shifts of all normalisation layers (Frankle et al. 2020, arXiv 2003.00152; they leave
      the head frozen, as they start from random weights with a head of the right size).

    Args:
        net: a timm network.
        part: which.

    Raises:
        UserError: an unknown part, or one that the network does not have.
    """
    if part not in get_args(Part):
        raise UserError(f"training.train_only: expected one of {', '.join(get_args(Part))}, got {part!r}.")
    head = _head(net)
    norms = _trainable_norms(net, before=head)
    chosen = {"head": [], "head_and_last_norm": norms[-1:], "norms": norms}[part]
    if part != "head" and not chosen:
        raise UserError(
            f"training.train_only: expected a network with normalisation layers for {part}, got a "
            f"{type(net).__name__} without; use head."
        )
    # A fused activation's own parameters stay frozen.
    of_norms = [parameter for layer in chosen for parameter in layer.parameters(recurse=False)]
    parameters = [*(parameter for layer in head for parameter in layer.parameters()), *of_norms]
    frozen = [layer for layer in net.modules() if _keeps_statistics(layer) and layer not in chosen]
    return TrainedPart(parameters, frozen)


def _head(net: nn.Module) -> list[nn.Module]:
    if not hasattr(net, "get_classifier"):
        raise UserError(
            f"training.train_only: expected a network with a get_classifier() method, as timm's have, got a "
            f"{type(net).__name__} without; add one that returns its last layer."
        )
    classifier = net.get_classifier()  # type: ignore[operator]
    layers = list(classifier) if isinstance(classifier, tuple | list) else [classifier]
    if not any(parameter.numel() for layer in layers for parameter in layer.parameters()):
        raise UserError(
            f"training.train_only: expected a network with a classifier, got a {type(net).__name__} without; "
            "give it as many classes as the images have."
        )
    return layers


def _trainable_norms(net: nn.Module, *, before: list[nn.Module]) -> list[nn.Module]:
    """In module order, those with a scale or shift."""
    modules = list(net.modules())
    end = min(modules.index(layer) for layer in before)
    return [layer for layer in modules[:end] if _is_norm(layer) and any(True for _ in layer.parameters(recurse=False))]


def _is_norm(module: nn.Module) -> bool:
    """By name, as torch's and timm's forty have no common base; a block that contains one has no parameters itself."""
    return "norm" in type(module).__name__.lower()


def _keeps_statistics(module: nn.Module) -> bool:
    return any(name.startswith("running_") for name, _ in module.named_buffers(recurse=False))
