"""Run folders that nobody trained: what a finished run leaves behind, with the accuracies that a test asks for."""

import csv
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from sizemix.cli.compose import CONF
from sizemix.evaluation.predictions import Answers, Predictions
from sizemix.report.plan import write_plan_csv
from sizemix.sizes.plan import plan_run
from sizemix.sizes.schedule import MixedSizes
from sizemix.sizes.spending import spending

IMAGES = 1000
SIZES = (16, 24, 28, 40)
_SHARES = {"fixed": {28: 1.0}, "mixed": {16: 0.25, 28: 0.5, 40: 0.25}}


@pytest.fixture
def fake_run(tmp_path) -> Callable[..., Path]:
    """Writes the folder of a finished run.

    accuracy is test top-1 by size; the rest of the arguments is what may be missing or other than usual, and overrides
    of the configuration.
    """

    def written(
        name: str,
        accuracy: Mapping[int, float],
        *overrides: str,
        seed: int = 0,
        validations: tuple[float, ...] = (0.5, 0.7, 0.8),
        seconds: float = 60.0,
        predictions: bool = True,
        new: bool = True,
        elapsed: bool = True,
        versions: Mapping[str, str] | None = None,
        hardness: int = 99,
        training_images: str = "def",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = _config(overrides, seed)
        plan = _plan(config, seed)
        OmegaConf.save(config, folder / "config.yaml")
        write_plan_csv(plan, folder / "plan.csv")
        _write_metrics(folder / "metrics.csv", plan, validations, seconds if elapsed else None, config.sizes.base_size)
        right = _right(accuracy, seed, hardness)
        if predictions:
            _write_predictions(folder / "predictions_test.npz", right)
        summary = {
            "name": config.name,
            "seed": seed,
            "data": "test images",
            "model": "resnet20_cifar",
            "class_names": ["a", "b"],
            "validation": {"image_size": 28, "final_top1": validations[-1], "best_top1": max(validations)},
            "curve": [_point(size, row.mean(), new) for size, row in right.items()],
            "plan": {
                "fingerprint": plan.fingerprint,
                "steps": plan.num_steps,
                "images_seen": plan.images_seen,
                "spending": json.loads(json.dumps(spending(plan), default=vars)),
            },
            "trained": {"steps": plan.num_steps, "images_seen": plan.images_seen, "stopped_early": False},
            "seconds": {"training": seconds, "evaluation": 3.0},
            "device": "cpu",
            "world_size": 1,
            "precision": "32-true",
            "versions": {"sizemix": "0.1.0", "torch": "2.11.0", **(versions or {})},
        }
        if new:
            summary |= {
                "cost": [{"image_size": size, "gflops": 0.08 * size**2 / 28**2} for size in accuracy],
                "data_fingerprint": "abc",
                "training_fingerprint": training_images,
            }
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    return written


@pytest.fixture
def fixed_and_mixed(fake_run) -> Callable[..., Path]:
    """A sweep of both arms: mixed gains 10 points at 16 px, loses 2 at 28, and is about level elsewhere."""

    def sweep(*, seeds: tuple[int, ...] = (0, 1, 2), **options: object) -> Path:
        noise = np.random.default_rng(0).normal(0, 0.004, size=(2, 10, len(SIZES)))
        means = {"fixed": (0.70, 0.85, 0.88, 0.80), "mixed": (0.80, 0.852, 0.86, 0.83)}
        for arm, (name, curve) in enumerate(means.items()):
            for seed in seeds:
                accuracy = dict(zip(SIZES, (noise[arm, seed] + curve).tolist(), strict=True))
                courses = {"fixed": (0.6, 0.8, 0.87 + seed / 1000), "mixed": (0.55, 0.871 + seed / 500, 0.86)}
                folder = fake_run(f"sweep/{arm}-{name}-seed{seed}", accuracy, f"sizes={name}", seed=seed,
                                  validations=courses[name], seconds=60 + 10 * arm, **options)  # fmt: skip
        return folder.parent

    return sweep


def _config(overrides, seed):
    config = OmegaConf.create(_composed(overrides))
    config.seed, config.run_id = seed, f"run{seed}"
    return config


@cache
def _composed(overrides):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("train", [*overrides, "name=fake"]), resolve=True)


def _plan(config, seed):
    shares = _SHARES["fixed" if config.sizes._target_.endswith(".fixed") else "mixed"]
    return plan_run(MixedSizes(tuple(shares), tuple(shares.values())), budget=config.sizes.budget, base_size=28,
                    base_batch_size=50, num_images=1000, num_epochs=3, seed=seed)  # fmt: skip


def _write_metrics(file, plan, validations, seconds, val_size):
    columns = ["step", "epoch", f"val/top1@{val_size}", *([] if seconds is None else ["throughput/elapsed_seconds"])]
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        for epoch, top1 in enumerate(validations):
            part = (epoch + 1) / len(validations)
            step = round(part * plan.num_steps) - 1
            writer.writerow([step, epoch, top1, *([] if seconds is None else [part * seconds])])


def _right(accuracy, seed, hardness):
    """Which images are right, by size: mostly the same for all runs, as some images are harder than others."""
    hardness = np.random.default_rng(hardness).random(IMAGES) + 0.1 * np.random.default_rng(seed).random(IMAGES)
    ranks = np.argsort(np.argsort(hardness))
    return {size: ranks < round(IMAGES * share) for size, share in accuracy.items()}


def _write_predictions(file, right):
    targets = np.arange(IMAGES, dtype=np.int32) % 2
    predicted = np.array([np.where(row, targets, 1 - targets) for row in right.values()], dtype=np.int32)
    ones = np.ones(predicted.shape, dtype=np.float32)
    answers = Answers(predicted, confidence=ones, loss=ones, in_top5=ones > 0)
    Predictions(tuple(right), targets, "same images", plain=answers, recalibrated=answers).save(file)


def _point(size, top1, new):
    point = {"image_size": size, "num_images": IMAGES, "top1": top1 - 0.01, "top1_recalibrated": top1,
             "balanced": top1 - 0.01, "balanced_recalibrated": top1}  # fmt: skip
    if new:
        figures = {"top5": 1.0, "loss": 0.4, "calibration_error": 0.05}
        point |= figures | {f"{name}_recalibrated": value for name, value in figures.items()}
    return point
