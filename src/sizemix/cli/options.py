"""Checks the kinds of a run's options before anything heavy is imported; their owners check what the values mean."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from sizemix.errors import UserError
from sizemix.training.instantiate import WITH_CUDA_GRAPHS


@dataclass(frozen=True)
class _Number:
    """A number of at least some size; None where the option may be left open."""

    kind: type[int] | type[float]
    minimum: float = 0
    maximum: float = float("inf")
    optional: bool = False

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        whole_enough = isinstance(value, int) or (self.kind is float and isinstance(value, float) and isfinite(value))
        return whole_enough and not isinstance(value, bool) and self.minimum <= value <= self.maximum

    def __str__(self) -> str:
        noun = "a whole number" if self.kind is int else "a number"
        limits = (
            f"from {self.minimum:g} to {self.maximum:.10g}"
            if isfinite(self.maximum)
            else f"of at least {self.minimum:g}"
        )
        return f"{noun} {limits}{' or null' if self.optional else ''}"


@dataclass(frozen=True)
class _Numbers:
    """A list of numbers."""

    of: _Number
    optional: bool = False
    distinct: bool = False

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if not isinstance(value, ListConfig) or not all(self.of.accepts(item) for item in value):
            return False
        return len(value) > 0 and (not self.distinct or len(set(value)) == len(value))

    def __str__(self) -> str:
        item = f"each item {self.of}{' and there once' if self.distinct else ''}"
        return f"a list like [1,2], {item}{', or null' if self.optional else ''}"


@dataclass(frozen=True)
class _Pair:
    """A least and a greatest number."""

    of: _Number

    def accepts(self, value: Any) -> bool:
        return isinstance(value, ListConfig) and len(value) == 2 and all(self.of.accepts(item) for item in value)

    def __str__(self) -> str:
        return f"the least and the greatest as [LEAST,GREATEST], each {self.of}"


@dataclass(frozen=True)
class _Mapping:
    """Options of their own."""

    example: str
    optional: bool = False

    def accepts(self, value: Any) -> bool:
        return self.optional if value is None else isinstance(value, DictConfig)

    def __str__(self) -> str:
        return f"several options as {self.example}{', or null' if self.optional else ''}"


@dataclass(frozen=True)
class _OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def accepts(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        names = {True: "true", False: "false", None: "null"}
        return f"one of {', '.join(names.get(value, str(value)) for value in self.values)}"


@dataclass(frozen=True)
class _Strategy:
    """How ranks share the work; whatever splits a network, or starts ranks without a command line, is refused."""

    values: tuple[str, ...] = ("auto", "ddp", "ddp_find_unused_parameters_true")

    def accepts(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}, as each rank needs the whole network and a process of its own"


@dataclass(frozen=True)
class _Devices:
    """How many devices, or which."""

    def accepts(self, value: Any) -> bool:
        if isinstance(value, str):
            return value == "auto" or re.fullmatch(r"\d+(,\d+)*,?", value) is not None
        if isinstance(value, ListConfig):
            return len(value) > 0 and all(_Number(int).accepts(device) for device in value)
        return isinstance(value, int) and not isinstance(value, bool) and (value > 0 or value == -1)

    def __str__(self) -> str:
        return "a number of at least 1, a list of device numbers like [0,1], or auto for all"


_Kind = _Devices | _Number | _Numbers | _Pair | _Mapping | _OneOf | _Strategy

_OPTIONS: dict[str, _Kind] = {
    "seed": _Number(int, maximum=2**32 - 1),
    "data.base_size": _Number(int, 1),
    "augment.flip": _OneOf((True, False)),
    "augment.rand_augment": _Mapping("{num_ops: 2, magnitude: 9}", optional=True),
    "augment.color_jitter": _Number(float, maximum=1, optional=True),
    "augment.erasing": _Number(float, maximum=1),
    "augment.mixup": _Number(float),
    "augment.cutmix": _Number(float),
    "sizes.base_size": _Number(int, 1),
    "recipe.base_batch_size": _Number(int, 1),
    "recipe.optimizer": _Mapping("{opt: sgd, lr: 0.1}"),
    "recipe.lr_schedule": _Mapping("{_target_: sizemix.training.optim.CosineLR}"),
    "recipe.label_smoothing": _Number(float, maximum=0.99),
    "recipe.loss_scale": _OneOf(("none", "sqrt", "linear")),
    "recipe.lr_scaling": _OneOf(("none", "sqrt", "linear")),
    "recipe.gradient_smoothing": _OneOf((True, False, "auto")),
    "recipe.averaging_half_life": _Number(float, optional=True),
    "training.train_only": _OneOf((None, "head", "head_and_last_norm", "norms")),
    "training.imbalance": _OneOf((None, "class_weights", "oversample")),
    "training.early_stopping_patience": _Number(int, 1, optional=True),
    "trainer.accelerator": _OneOf(("auto", "cpu", "gpu", "cuda", "mps")),
    "trainer.devices": _Devices(),
    "trainer.strategy": _Strategy(),
    "trainer.num_nodes": _Number(int, 1),
    "trainer.sync_batchnorm": _OneOf((True, False)),
    "trainer.max_epochs": _Number(int, 1),
    "trainer.precision": _OneOf(("32-true", "bf16-mixed", "16-mixed")),
    "trainer.accumulate_grad_batches": _Number(int, 1),
    "trainer.gradient_clip_val": _Number(float, optional=True),
    "trainer.log_every_n_steps": _Number(int, 1),
    "trainer.enable_progress_bar": _OneOf((True, False)),
    "evaluation.eval_sizes": _Numbers(_Number(int, 1), distinct=True),
    "evaluation.val_size": _Number(int, 1),
    "augment.rescale": _Numbers(_Number(float), optional=True),
    "augment.rescale_shares": _Numbers(_Number(float), optional=True),
    "match": _OneOf(("images", "steps", "compute", "time")),
    "length_factor": _Number(float, 0.001, 1000),
    "training.train_only_part": _Number(float, maximum=1, optional=True),
    "training.train_only_lr_factor": _Number(float),
    "training.last_epoch": _Number(float, maximum=1),
    "evaluation.batch_size": _Number(int, 1),
    "evaluation.calibration_images": _Number(int, 1),
    "evaluation.calibration_transform": _OneOf(("test", "train")),
    "evaluation.measure": _OneOf(("gflops", "latency", "throughput")),
    "checkpoint.every_steps": _Number(int, 1, optional=True),
    "checkpoint.every_minutes": _Number(float, 1e-3, optional=True),
}

# Options that only some choices of their group have; a user's own data set, model or schedule has others, and so has
# an optimizer.
_SOME_CHOICES_OPTIONS: dict[str, _Kind] = {
    "data.crop_padding": _Number(int),
    "data.val_fraction": _Number(float, maximum=0.99),
    "data.test_fraction": _Number(float, maximum=0.99),
    "data.split_seed": _Number(int),
    "data.allow_broken": _OneOf((True, False)),
    "data.crop_scale": _Pair(_Number(float)),
    "data.crop_aspect": _Pair(_Number(float)),
    "data.crop_reference_size": _Number(int, 1, optional=True),
    "data.decode_gap": _Number(float, 1),
    "model.pretrained": _OneOf((True, False)),
    "model.drop_path_rate": _Number(float, maximum=0.99),
    "model.compile": _OneOf((True, False, WITH_CUDA_GRAPHS)),
    "recipe.optimizer.lr": _Number(float),
    "recipe.optimizer.weight_decay": _Number(float),
    "recipe.optimizer.momentum": _Number(float),
    "recipe.optimizer.layer_decay": _Number(float, optional=True),
    "sizes.image_sizes": _Numbers(_Number(int, 1), optional=True),
    "sizes.relative_sizes": _Numbers(_Number(float), optional=True),
    "sizes.shares": _Numbers(_Number(float), optional=True),
    "sizes.multiple_of": _Number(int, 1),
    "sizes.smallest": _Number(int, 1, optional=True),
    "sizes.largest": _Number(int, 1, optional=True),
    "sizes.relative_smallest": _Number(float),
    "sizes.relative_largest": _Number(float),
    "sizes.power": _Number(float, -10, 10),
    "sizes.start": _Number(float, maximum=1),
    "sizes.full_size_part": _Number(float, maximum=1),
    "sizes.spread": _Number(float),
    "sizes.uniform_part": _Number(float, maximum=1),
    "logger.mode": _OneOf(("online", "offline", "disabled")),
}

_WORKERS = _Number(int)

# What may change when a run goes on: nothing that the plan, the data or the model depend on.
RESUMABLE = (
    "data.num_workers",
    "evaluation.batch_size",
    "trainer.enable_progress_bar",
    "checkpoint.every_steps",
    "checkpoint.every_minutes",
)

# What would end an epoch or the run elsewhere than the plan says.
_CUTS_THE_PLAN = ("max_steps", "min_steps", "limit_train_batches", "overfit_batches", "fast_dev_run")


def check_options(config: DictConfig) -> None:
    """Checks every option that sizemix reads itself.

    Raises:
        UserError: the first option that is missing or of the wrong kind.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"expected a value for {', '.join(missing)}, got none; set it, as in {missing[0]}=NAME.")
    cut = [name for name in _CUTS_THE_PLAN if name in config.trainer]
    if cut:
        raise UserError(
            f"trainer.{cut[0]} would cut the size plan short, so that images are skipped; "
            "expected the run's length in trainer.max_epochs, its images in data.train_images."
        )
    limit = config.trainer.get("max_time")
    if limit is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(limit)):
        raise UserError(f"trainer.max_time: expected days:hours:minutes:seconds, as 00:12:00:00, got {limit!r}.")
    for name, kind in (_OPTIONS | _SOME_CHOICES_OPTIONS).items():
        value = OmegaConf.select(config, name)
        if not kind.accepts(value) and (name in _OPTIONS or _has(config, name)):
            raise UserError(f"{name}: expected {kind}, got {value!r}.")
    for name, number in _numbers_of(config.recipe.optimizer, "recipe.optimizer"):
        if not isfinite(number):
            raise UserError(f"{name}: expected a finite number, got {number}.")
    if config.data.num_workers != "auto" and not _WORKERS.accepts(config.data.num_workers):
        raise UserError(f"data.num_workers: expected {_WORKERS} or auto, got {config.data.num_workers!r}.")
    _check_scaling(config)
    _check_compilation(config)
    if config.trainer.sync_batchnorm and config.training.train_only in ("head", "head_and_last_norm"):
        raise UserError(
            f"trainer.sync_batchnorm: expected false with training.train_only={config.training.train_only}, which "
            "keeps the batch-norm statistics of frozen layers, got true."
        )


def _check_compilation(config: DictConfig) -> None:
    if config.model.get("compile") == WITH_CUDA_GRAPHS and config.sizes.budget == "memory":
        raise UserError(
            "model.compile: expected true or false with sizes.budget=memory, whose trials do not see what CUDA graphs "
            f"keep, got {WITH_CUDA_GRAPHS}; use true."
        )


def _check_scaling(config: DictConfig) -> None:
    """Refuses what would do nothing."""
    for name in ("loss_scale", "lr_scaling"):
        if config.recipe[name] != "none" and config.sizes.budget == "constant":
            raise UserError(
                f"recipe.{name}: expected none with sizes.budget=constant, whose steps all have the same batch, got "
                f"{config.recipe[name]}; leave it out, or choose a budget that changes the batch, as B+."
            )


def _has(config: DictConfig, name: str) -> bool:
    """Whether an option is there, be it null."""
    group, _, key = name.rpartition(".")
    return key in OmegaConf.select(config, group)


def _numbers_of(settings: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers in settings of any depth, such as an optimizer's two betas."""
    if isinstance(settings, DictConfig):
        for key, value in settings.items():
            yield from _numbers_of(value, ".".join((name, str(key))))
    elif isinstance(settings, ListConfig):
        for value in settings:
            yield from _numbers_of(value, name)
    elif isinstance(settings, int | float):
        yield name, settings
