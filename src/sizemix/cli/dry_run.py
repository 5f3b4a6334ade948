"""A sweep that is only looked at: its jobs, what each spends, how long all of it takes."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from sizemix.cli.compose import CONF, prepared
from sizemix.errors import UserError

if TYPE_CHECKING:
    from sizemix.training.forecast import Forecast
    from sizemix.training.plan_inputs import Images

OPTION = "dry_run=true"
_LAUNCHING = ("hydra/launcher=", "hydra.launcher.")  # jobs are looked at in this process


@dataclass(frozen=True)
class _Job:
    """One job of the sweep.

    Attributes:
        overrides: its own, as Hydra has them.
        spent: what it would spend.
    """

    overrides: Sequence[str]
    spent: "Forecast"


def show_jobs(arguments: Sequence[str]) -> None:
    """Lists the jobs that the arguments make; nothing is trained or kept.

    Args:
        arguments: of the command, -m among them, without the option itself; Hydra reads them from sys.argv.

    Raises:
        UserError: a job that would be refused.
    """
    jobs: list[_Job] = []
    mistakes: list[UserError] = []

    def task(config: DictConfig) -> float:
        overrides = list(HydraConfig.get().overrides.task)
        try:
            config = prepared(config, overrides)
            jobs.append(_Job(overrides, _forecast(_without_seed(config))))
        except UserError as error:
            mistakes.append(error)
        return 0.0  # to a search, for which all are alike

    arguments = [argument for argument in arguments if not argument.startswith(_LAUNCHING)]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [sys.argv[0], *arguments, f"hydra.sweep.dir={folder}", "~hydra.callbacks.sweep"]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)()
    if mistakes:
        raise mistakes[0]
    if not jobs:  # Hydra has shown something else
        return
    Console(highlight=False, markup=False).print(*_lines(jobs))


def _lines(jobs: Sequence[_Job]) -> list[Any]:
    from sizemix.sizes.matching import compute
    from sizemix.sizes.spending import expected_seconds

    common = set.intersection(*(set(job.overrides) for job in jobs))
    first = compute(jobs[0].spent.plan)
    table = Table()
    table.add_column("job", justify="right")
    table.add_column("options", overflow="fold")
    for name in ("epochs", "steps", "images", "compute", "time"):
        table.add_column(name, justify="right")
    total = 0.0
    for number, job in enumerate(jobs):
        plan, measured = job.spent.plan, job.spent.measured
        assert measured is not None
        seconds = expected_seconds(plan, measured)
        total += seconds
        table.add_row(
            f"{number}",
            " ".join(override for override in job.overrides if override not in common),
            f"{plan.num_epochs - 1 + plan.inputs.last_epoch:.4g}",
            f"{plan.num_steps:,}",
            f"{plan.images_seen:,}",
            f"{compute(plan) / first:.2f} x",
            _duration(seconds),
        )
    return [
        table,
        f"{len(jobs)} jobs, {_duration(total)} one after the other: training steps alone, as measured now; validation, "
        "evaluation and waiting for data are not counted. Compute is compared with job 0's.",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _without_seed(config: DictConfig) -> str:
    """What a plan's cost depends on, as text, so that seeds are looked at once."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return OmegaConf.to_yaml(OmegaConf.create({**values, "seed": 0, "run_id": None}))


@cache
def _forecast(text: str) -> "Forecast":
    from sizemix.training.forecast import forecast

    config = OmegaConf.create(text)
    assert isinstance(config, DictConfig)
    return forecast(config, _images(OmegaConf.to_yaml(config.data), config.training.imbalance), probe=True)


@cache
def _images(data: str, imbalance: str | None) -> "Images":
    from sizemix.training.plan_inputs import count_images

    config = OmegaConf.create({"data": OmegaConf.create(data), "training": {"imbalance": imbalance}})
    assert isinstance(config, DictConfig)
    return count_images(config)
