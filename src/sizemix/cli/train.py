"""`sizemix train`, also `python train.py`: composes a run's configuration and starts it in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sizemix.cli.compose import CONF
from sizemix.cli.defaults import make_paths_absolute, with_fitting_recipe
from sizemix.cli.messages import one_sentence
from sizemix.cli.options import check_options
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.training.launch import join_ranks
from sizemix.training.lifeline import Lifeline

# What may change when a run goes on: nothing that the plan, the data or the model depend on.
_RESUMABLE = ("data.num_workers", "trainer.enable_progress_bar", "checkpoint.every_steps", "checkpoint.every_minutes")


def main(arguments: Sequence[str]) -> int:
    """Starts the run or runs that the arguments describe; returns the exit code."""
    lifeline = Lifeline()
    try:
        lifeline = join_ranks()
        return _start(arguments, lifeline) if lifeline.rank == 0 else _start_with_rank_0(lifeline)
    except SystemExit:  # Hydra has shown its help, or could not read the command line
        lifeline.finish()
        raise
    except KeyboardInterrupt:
        message, code = "interrupted.", 130
    except (UserError, HydraException, OmegaConfBaseException) as error:
        message, code = one_sentence(error), 2
    print(f"sizemix: {message}", file=sys.stderr)
    lifeline.fail(message, code)
    return code


def _start(arguments: Sequence[str], lifeline: Lifeline) -> int:
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        others = [argument for argument in arguments if argument not in resumed]
        folder = _reopen(resumed[-1].removeprefix("resume="), others)
        return _carry_on(folder, lifeline)
    return _compose_and_start(arguments, lifeline)


def _start_with_rank_0(lifeline: Lifeline) -> int:
    """Takes part in the run that rank 0 has composed: names contain the time, and only one process may draw it."""
    path = lifeline.receive()
    return 0 if path is None else _run_here(path, lifeline)


def _compose_and_start(arguments: Sequence[str], lifeline: Lifeline) -> int:
    _, unknown = get_args_parser().parse_known_args(list(arguments))
    dashed = [argument for argument in unknown if argument.startswith("-")]
    if dashed:
        name = dashed[0].lstrip("-").partition("=")[0]
        raise UserError(f"expected option=value, got {dashed[0]}; options have no dashes, as in {name}=VALUE.")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them over several lines
    sys.argv = [sys.argv[0], *arguments]
    single: list[RunFolder] = []
    failed: list[str] = []
    mistakes: list[str] = []  # told behind Hydra, which would print a line of its own about them

    def task(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        if hydra_config.mode is RunMode.MULTIRUN and lifeline.world_size > 1:
            mistakes[:] = [
                "a sweep (-m) starts its runs itself; under torchrun or srun, start each of them on its own."
            ]
            return
        try:
            config = with_fitting_recipe(config, hydra_config.overrides.task)
            check_options(config)
            make_paths_absolute(config)
            folder = RunFolder.create(hydra_config.runtime.output_dir, config)
        except UserError as error:
            mistakes.append(f"{error}" if hydra_config.mode is RunMode.RUN else f"job {hydra_config.job.num}: {error}")
            return
        if hydra_config.mode is RunMode.RUN:
            single.append(folder)
            return
        print(f"Job {hydra_config.job.num}: {' '.join(hydra_config.overrides.task)}", flush=True)
        if subprocess.run(_command(folder), check=False).returncode:
            failed.append(str(folder.path))

    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)()
    if failed:
        mistakes.append(f"{len(failed)} of the jobs failed, their messages stand above: {', '.join(failed)}.")
    if mistakes:
        raise UserError(" ".join(mistakes))
    if single:
        return _carry_on(single[0], lifeline)
    lifeline.finish()
    return 0


def _reopen(path: str, overrides: Sequence[str]) -> RunFolder:
    folder = RunFolder.open(path)
    refused = [override for override in overrides if override.split("=")[0] not in _RESUMABLE]
    if refused:
        raise UserError(
            f"a resumed run keeps its configuration: expected only {', '.join(_RESUMABLE)}, got {' '.join(refused)}; "
            "start a new run."
        )
    config = folder.config()
    config.merge_with_dotlist(list(overrides))
    check_options(config)
    folder.save_config(config)
    return folder


def _carry_on(folder: RunFolder, lifeline: Lifeline) -> int:
    if lifeline.world_size == 1:
        return _become(folder)
    lifeline.share(str(folder.path.resolve()))
    return _run_here(str(folder.path), lifeline)


def _run_here(path: str, lifeline: Lifeline) -> int:
    """Carries the run out in this process: a launcher has started one for each rank, so none will be repeated."""
    from sizemix.training import run  # seconds, which rank 0 may need to refuse a configuration first

    return run.main([path], lifeline)


def _become(folder: RunFolder) -> NoReturn:
    """Replaces this process by the run, so that signals and the exit code are the run's own."""
    sys.stdout.flush()
    os.execv(sys.executable, _command(folder))


def _command(folder: RunFolder) -> list[str]:
    return [sys.executable, "-m", "sizemix.training.run", str(folder.path)]
