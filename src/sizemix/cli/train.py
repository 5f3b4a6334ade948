"""`sizemix train`, also `python train.py`: composes a run's configuration and starts it in a process of its own."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sizemix.checkpointing.signals import hold_back
from sizemix.cli import sweep
from sizemix.cli.compose import CONF, as_hydra_reads, prepared
from sizemix.cli.folders import made_by_hydra, remove_empty_ones
from sizemix.cli.messages import one_sentence
from sizemix.cli.options import RESUMABLE, check_options
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.training.instantiate import TIMM
from sizemix.training.launch import join_ranks
from sizemix.training.lifeline import Lifeline
from sizemix.training.slurm import begun_run, remember_run


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
        swept = sweep.arguments_to_resume(resumed[-1].removeprefix("resume="))
        if swept is not None:
            if others:
                raise UserError(
                    f"a resumed sweep keeps its options: expected none, got {' '.join(others)}; to change some, give "
                    f"the whole command with hydra.sweep.dir={resumed[-1].removeprefix('resume=')}, which keeps the "
                    "jobs that stay the same."
                )
            return _compose_and_start(swept, lifeline)
        folder = _reopen(resumed[-1].removeprefix("resume="), others)
        return _carry_on(folder, lifeline)
    begun = begun_run(arguments)
    if begun is not None:
        print(f"Slurm has started this job again: continuing {begun.path}.", flush=True)
        return _carry_on(begun, lifeline)
    return _compose_and_start(arguments, lifeline)


def _start_with_rank_0(lifeline: Lifeline) -> int:
    """Takes part in the run that rank 0 has composed: names contain the time, and only one process may draw it."""
    path = lifeline.receive()
    return 0 if path is None else _run_here(path, lifeline)


def _compose_and_start(asked: Sequence[str], lifeline: Lifeline) -> int:
    arguments = _sweep_first(as_hydra_reads(asked))
    parsed, unknown = get_args_parser().parse_known_args(list(arguments))
    dashed = [argument for argument in unknown if argument.startswith("-")]
    if dashed:
        name = dashed[0].lstrip("-").partition("=")[0]
        raise UserError(f"expected option=value, got {dashed[0]}; options have no dashes, as in {name}=VALUE.")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them over several lines
    if parsed.multirun:
        if lifeline.world_size > 1:
            raise UserError(
                "a sweep (-m) starts its runs itself; under torchrun or srun, start each of them on its own."
            )
        return sweep.carry_out(arguments)
    if any(argument.startswith("dry_run=") for argument in arguments):
        raise UserError(
            "dry_run: expected a sweep (-m), whose jobs it lists, got one run; sizemix plan shows what it spends."
        )
    sys.argv = [sys.argv[0], *arguments]
    folders: list[RunFolder] = []  # one, unless Hydra only shows something
    mistakes: list[UserError] = []  # told behind Hydra, which would print a line of its own about them

    def task(config: DictConfig) -> None:
        settings = HydraConfig.get()
        try:
            config = prepared(config, settings.overrides.task)
            folders.append(RunFolder.create(settings.runtime.output_dir, config))
        except UserError as error:
            mistakes.append(error)

    try:
        with made_by_hydra("hydra.run.dir"):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)()
    finally:
        if not folders:
            remove_empty_ones()
    if mistakes:
        raise mistakes[0]
    if folders:
        remember_run(folders[0], asked)
        return _carry_on(folders[0], lifeline)
    lifeline.finish()
    return 0


def _sweep_first(arguments: Sequence[str]) -> list[str]:
    """-m before all else: Hydra does not understand it between options."""
    return sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))


def _reopen(path: str, overrides: Sequence[str]) -> RunFolder:
    folder = RunFolder.open(path)
    refused = [override for override in overrides if override.split("=")[0] not in RESUMABLE]
    if refused:
        raise UserError(
            f"a resumed run keeps its configuration: expected only {', '.join(RESUMABLE)}, got {' '.join(refused)}; "
            f"{_way_on(folder, refused)}."
        )
    if overrides:
        config = folder.config()
        config.merge_with_dotlist(list(overrides))
        check_options(config)
        try:
            folder.save_config(config)
        except OSError as error:
            raise UserError(f"expected to write into {folder.path}, got: {error.strerror}.") from error
    return folder


def _way_on(folder: RunFolder, wanted: Sequence[str]) -> str:
    """A new run, as plan and learning rate are others; with the weights of this one where the network is the same."""
    model = OmegaConf.select(folder.config(), "model") or {}
    same_network = not any(override.lstrip("+~").startswith("model") for override in wanted)
    if not (same_network and model.get("_target_") == TIMM and folder.last_checkpoint.is_file()):
        return "start a new run"
    begun = [*(["model.pretrained=false"] if model.get("pretrained") else []), f"model.checkpoint={folder.path}"]
    return (
        "start a new run, which begins with the weights of this one by: sizemix train OPTIONS "
        f"{shlex.join([*begun, *wanted])} (OPTIONS: those that this run was started with)"
    )


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
    hold_back()  # until the run has its handlers
    os.execv(sys.executable, _command(folder))


def _command(folder: RunFolder) -> list[str]:
    return [sys.executable, "-m", "sizemix.training.run", str(folder.path)]
