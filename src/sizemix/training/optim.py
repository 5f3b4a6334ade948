"""Learning rates as functions of images seen, and the optimizer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info, list_optimizers
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from sizemix.errors import UserError
from sizemix.sizes.plan import SizePlan

_OTHER_KERNELS = {"fused", "foreach", "differentiable"}

BatchScaling = Literal["none", "sqrt", "linear"]


class LRSchedule(Protocol):
    """Says which part of the peak learning rate applies where in a run."""

    def factor(self, progress: float) -> float:
        """Factor at a progress from 0 to 1, the fraction of the run's source images already seen."""


@dataclass(frozen=True)
class CosineLR:
    """Linear warm-up, then half a cosine down to zero.

    Args:
        warmup: fraction of the run in which the learning rate rises.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def factor(self, progress: float) -> float:
        """Factor at a progress from 0 to 1."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class StepLR:
    """Linear warm-up, then a drop by gamma at each milestone.

    Args:
        milestones: fractions of the run, increasing.
        gamma: what each milestone multiplies the learning rate by.
        warmup: fraction of the run in which the learning rate rises.
    """

    milestones: Sequence[float]
    gamma: float = 0.1
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if list(self.milestones) != sorted(self.milestones) or any(not 0 < at < 1 for at in self.milestones):
            raise UserError(
                "recipe.lr_schedule.milestones: expected increasing fractions of the run between 0 and 1, "
                f"got {list(self.milestones)}."
            )

        if not 0 < self.gamma < math.inf:
            raise UserError(f"recipe.lr_schedule.gamma: expected a positive number, got {self.gamma}.")

    def factor(self, progress: float) -> float:
        """Factor at a progress from 0 to 1."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        passed: int = sum(progress >= milestone for milestone in self.milestones)
        return float(self.gamma**passed)


@dataclass(frozen=True)
class Finetuning:
    """A last part of a run with a learning rate of its own, which falls to 0 along half a cosine.

    Args:
        num_epochs: last epochs of the run.
        factor: of the peak learning rate, that it begins with.
    """

    num_epochs: int
    factor: float

    def starts_at(self, plan: SizePlan) -> int:
        """The first step of that part."""
        return sum(plan.epoch_length(epoch) for epoch in range(plan.num_epochs - self.num_epochs))


def lr_factor_by_step(
    schedule: LRSchedule,
    plan: SizePlan,
    *,
    scaling: BatchScaling = "none",
    base_batch_size: int = 1,
    finetuning: Finetuning | None = None,
) -> Callable[[int], float]:
    """The factor at every step of a plan, by the images seen before it: uneven batches do not bend the schedule.

    Args:
        schedule: factor by progress.
        plan: the run's plan.
        scaling: whether a step's learning rate also follows its batch, see batch_factor.
        base_batch_size: source images of a step whose learning rate is the configured one.
        finetuning: a last part of its own, before which the schedule comes to its end.
    """
    boundary = plan.images_seen if finetuning is None else plan.images_before(finetuning.starts_at(plan))

    def by_images(images: int) -> float:
        if finetuning is None or images < boundary:
            return schedule.factor(images / boundary)
        progress = (images - boundary) / (plan.images_seen - boundary)
        return finetuning.factor * CosineLR().factor(progress)

    def factor(step: int) -> float:
        batch = plan.spec(min(step, plan.num_steps - 1)).global_batch_size
        return by_images(plan.images_before(min(step, plan.num_steps))) * batch_factor(scaling, batch / base_batch_size)

    return factor


def batch_factor(scaling: BatchScaling, ratio: float) -> float:
    """What a learning rate or a loss is multiplied by in a step of another batch than the base batch.

    Args:
        scaling: none; sqrt (keeps the noise of an update, Hoffer et al. 2017, arXiv 1705.08741, section 4.1); linear
            (keeps the mean update of an image, Goyal et al. 2017, arXiv 1706.02677, section 2.1).
        ratio: source images of the step over those of a base step; copies do not count.
    """
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[scaling]


def build_optimizer(model: nn.Module, settings: Mapping[str, Any], *, fused: bool = False) -> Optimizer:
    """An optimizer of timm's factory; norms and biases get no weight decay.

    Args:
        model: whose parameters to optimise.
        settings: arguments of timm.optim.create_optimizer_v2, such as opt, lr, weight_decay, momentum.
        fused: whether one kernel updates all parameters where torch has one for the optimizer on every device and
            settings say nothing else; not for gradients that are still scaled for fp16, as such a step unscales them
            itself.

    Raises:
        UserError: an unknown optimizer, or a setting it does not take.
    """
    name = settings.get("opt")
    if name not in list_optimizers():
        raise UserError(
            f"recipe.optimizer.opt: expected a name of timm's optimizers, such as sgd, momentum or adamw, got {name!r}."
        )
    if get_optimizer_info(name).second_order:
        raise UserError(
            f"recipe.optimizer.opt: expected one that needs first derivatives alone, such as sgd or adamw, got {name}."
        )
    try:
        if fused and not _OTHER_KERNELS & set(settings) and _has_fused_kernel(name, settings):
            settings = {**settings, "fused": True}
        optimizer = create_optimizer_v2(model, **settings)
    except (TypeError, ValueError, RuntimeError, ImportError, AssertionError) as error:
        raise UserError(f"recipe.optimizer: {name} does not take {dict(settings)}: {error}.") from error
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale", 1.0)  # of layer decay, which timm leaves to its own schedulers
    if isinstance(optimizer, SGD):
        _begin_momentum(optimizer)
    return optimizer


def _has_fused_kernel(name: str, settings: Mapping[str, Any]) -> bool:
    kind = get_optimizer_class(name, bind_defaults=False)
    return kind in (Adam, AdamW) or (kind is SGD and not settings.get("dampening"))


def _begin_momentum(optimizer: SGD) -> None:
    """Zeros are what no momentum yet comes to; a fused step wants all parameters or none to have it begun.

    A network may leave some out of its first steps.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _rise(progress: float, warmup: float) -> float:
    """From a hundredth, so that the first step already learns."""
    return 0.01 + 0.99 * progress / warmup


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise UserError(f"recipe.lr_schedule.warmup: expected a fraction of the run from 0 to under 1, got {warmup}.")
