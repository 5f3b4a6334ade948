"""Looks at what trains the network: optimizer, learning rate, smoothing, and which part of it."""

from omegaconf import DictConfig
from torch import nn

from sizemix.diagnosis.finding import Check, Finding
from sizemix.training.callbacks import finetuning_of, smoothing_of
from sizemix.training.instantiate import instantiate, plain
from sizemix.training.optim import build_optimizer


def check_recipe(config: DictConfig, net: nn.Module, *, num_sizes: int) -> Check[None]:
    """Makes all of it as training does."""
    optimizer = build_optimizer(net, plain(config.recipe.optimizer))
    instantiate(config.recipe.lr_schedule, "recipe.lr_schedule")
    smoothed = ", gradients smoothed" if smoothing_of(config, num_sizes=num_sizes) else ""
    finetuning = finetuning_of(config)
    part = f", {config.training.train_only} alone in the last {finetuning.num_epochs} epochs" if finetuning else ""
    rate = config.recipe.optimizer.get("lr")
    yield Finding("recipe", f"{type(optimizer).__name__}, learning rate {rate}{smoothed}{part}")
