"""`sizemix train -m`: every job is a run in a process and a folder of its own; what failed is told at the end.

Hydra calls the job function, in this process or, with another launcher, in others; files in the sweep's folder are
what they have in common: sweep.json says what was asked for, a job's failure.txt why it did not end as it should.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sizemix.cli.compose import CONF, prepared
from sizemix.cli.dry_run import OPTION, show_jobs
from sizemix.cli.folders import is_new, made_by_hydra, note_new, remove_empty_ones
from sizemix.cli.options import RESUMABLE
from sizemix.errors import UserError
from sizemix.runs.atomic import write_atomically
from sizemix.runs.discovery import runs_below
from sizemix.runs.folder import FAILURE, RunFolder
from sizemix.runs.lock import Lock, take_lock

_RECORD, _LOCK = "sweep.json", "sweep.lock"
# What follows from a run's id, and from the sweep's folder, which may have been moved.
_NOT_THE_RUN = ("run_id", "logger.additional.id", "logger.additional.group")
_HYDRAS = "multirun.yaml"  # its own record of a sweep
_begun: list[tuple[Path, Lock]] = []  # folder and lock, from Hydra, which makes SweepRecord and returns nothing


class SweepRecord(Callback):
    """Notes a sweep's arguments in its folder, so that the same command continues it (conf/train.yaml names this)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before the first job."""
        folder = Path(config.hydra.sweep.dir)
        note_new(folder)
        lock = _locked(folder)
        for failure in _failures(folder).values():
            failure.unlink()
        _begun.append((folder, lock))
        _write_record(folder, [argument for argument in sys.argv[1:] if not _names_folder(argument)], finished=False)


def _locked(folder: Path) -> Lock:
    """The lock of a sweep's folder; where there is none, this ends the process: Hydra passes over other exceptions."""
    try:
        with made_by_hydra("hydra.sweep.dir"):
            lock = take_lock(folder / _LOCK)
    except UserError as error:
        print(f"sizemix: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if lock is None:
        print(f"sizemix: another process carries out the sweep in {folder}; wait for its end.", file=sys.stderr)
        raise SystemExit(2)
    return lock


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a sweep as Ctrl-C does, but for the exit code."""


def carry_out(arguments: Sequence[str]) -> int:
    """Starts a sweep, or goes on with the newest unfinished one of the same arguments; returns the exit code.

    With dry_run=true it only lists the jobs.

    Args:
        arguments: of the command, -m among them.

    Raises:
        UserError: jobs that failed, once all have had their turn.
    """
    odd = next((argument for argument in arguments if argument.startswith("dry_run=") and argument != OPTION), None)
    if odd is not None:
        raise UserError(f"expected {OPTION}, or nothing of it, got {odd}.")
    if OPTION in arguments:
        show_jobs([argument for argument in arguments if argument != OPTION])
        return 0
    earlier = None if any(map(_names_folder, arguments)) else _unfinished(list(arguments))
    if earlier is not None:
        print(f"Continuing the sweep in {earlier}", flush=True)
        arguments = [*arguments, _naming(earlier)]
    sys.argv = [sys.argv[0], *arguments]
    with _sigterm_as_interruption():
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(_job)()
        except (HydraException, OmegaConfBaseException):
            _take_back()
            raise
        except ValueError:  # Optuna's, where not one trial has come to its end
            if not (_begun and _failures(_begun[-1][0])):
                raise
    if not _begun:  # Hydra has shown something else
        return 0
    folder, lock = _begun.pop()
    try:
        return _conclude(folder)
    finally:
        lock.release()


def _take_back() -> None:
    """Removes the folder of a sweep that Hydra refuses before its first job, if it is new and holds nothing else."""
    while _begun:
        folder, lock = _begun.pop()
        lock.release()
        if is_new(folder) and {file.name for file in folder.iterdir()} <= {_RECORD, _LOCK, _HYDRAS}:
            for file in folder.iterdir():
                file.unlink()
        remove_empty_ones()


def arguments_to_resume(path: str) -> list[str] | None:
    """The command line that goes on with the sweep in a folder, from the place where it began; None: there is none.

    Raises:
        UserError: that place is gone.
    """
    folder = Path(path).absolute()
    if not (folder / _RECORD).is_file():
        return None
    record = _read_record(folder / _RECORD)
    try:
        os.chdir(record["started_in"])  # which its relative paths refer to
    except OSError as error:
        raise UserError(
            f"resume: expected the folder {record['started_in']}, where the sweep began; {error}."
        ) from error
    return [*record["arguments"], _naming(folder)]


def _conclude(folder: Path) -> int:
    failures = _failures(folder)
    if failures:
        reasons = "; ".join(f"{name}: {file.read_text().rstrip('.')}" for name, file in failures.items())
        raise UserError(
            f"{len(failures)} of the jobs failed ({reasons}); resume={folder} does what is missing, and with other "
            f"values the whole command with hydra.sweep.dir={folder} does."
        )
    _write_record(folder, _read_record(folder / _RECORD)["arguments"], finished=True)
    print(f"Sweep finished: {folder}")
    return 0


def _failures(folder: Path) -> dict[str, Path]:
    """The files that say why jobs failed, by the job's place in the sweep."""
    files = {str(place.relative_to(folder)): place / FAILURE for place in runs_below(folder)}
    return {name: file for name, file in files.items() if file.is_file()}


def _job(config: DictConfig) -> float | None:
    """Carries out one job of the sweep; Hydra has changed nothing but the configuration.

    Returns:
        What a search maximises: the final accuracy on validation images; None where the job failed.
    """
    settings = HydraConfig.get()
    place = Path(settings.runtime.output_dir)
    sweep, failure = Path(settings.sweep.dir), place / FAILURE
    try:
        config = _of_sweep(prepared(config, settings.overrides.task), sweep)
        folder = _folder_for(config, place, sweep)
    except UserError as error:
        failure.write_text(str(error))
        return None
    done = f", finished already: {folder.path}" if folder.finished else ""
    print(f"Job {settings.job.num}: {' '.join(settings.overrides.task)}{done}", flush=True)
    if done:
        return _validation_top1(folder)
    code = _wait_for([sys.executable, "-m", "sizemix.training.run", str(folder.path)])
    if code:
        if not folder.failure_file.exists():  # what the run has said itself says more
            failure.write_text(signal.Signals(-code).name if code < 0 else f"exit code {code}")
        return None
    return _validation_top1(folder)


def _of_sweep(config: DictConfig, sweep: Path) -> DictConfig:
    """The configuration whose logger, where it knows groups and the user has named none, has the sweep's."""
    logger = config.logger.additional
    if logger is not None and "group" in logger and logger.group is None:
        logger.group = group_of(sweep)
    return config


def group_of(sweep: Path) -> str:
    """What loggers call a sweep: its folder's date and time, or the folder's name where the user has chosen it."""
    *_, parent, name = ("", *sweep.absolute().parts)
    return f"{parent}/{name}" if re.fullmatch(r"\d{4}-\d\d-\d\d", parent) else name


def _validation_top1(folder: RunFolder) -> float:
    """Never of the test images: what chooses does not judge."""
    return float(json.loads(folder.summary_file.read_text())["validation"]["final_top1"])


def _folder_for(config: DictConfig, place: Path, sweep: Path) -> RunFolder:
    """The run of this configuration in the sweep, or a new one."""
    wanted = _comparable(config)
    for folder in map(RunFolder, [place, *runs_below(sweep)]):
        if folder.config_file.exists() and _comparable(folder.config()) == wanted:
            _take_over(config, folder)
            return folder
    if (place / "config.yaml").exists():
        there = _comparable(RunFolder(place).config())
        differing = ", ".join(sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name)))
        raise UserError(
            f"{place} holds a run with another {differing}; move that folder away to replace the run, or start a sweep "
            "elsewhere by hydra.sweep.dir=FOLDER"
        )
    return RunFolder.create(place, config)


def _take_over(config: DictConfig, folder: RunFolder) -> None:
    """What may change when a run goes on is as it is asked for now."""
    kept = folder.config()
    for name in RESUMABLE:
        if OmegaConf.select(kept, name) != OmegaConf.select(config, name):
            OmegaConf.update(kept, name, OmegaConf.select(config, name))
    if not folder.finished:
        folder.save_config(kept)


def _comparable(config: DictConfig) -> dict[str, Any]:
    """What makes a run what it is, by option: not its id and group, nor what may change when it goes on."""
    return {
        name: value
        for name, value in _flat(OmegaConf.to_container(config, resolve=True))
        if name not in (*_NOT_THE_RUN, *RESUMABLE)
    }


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, values


def _wait_for(command: Sequence[str]) -> int:
    """Runs a process to its end, whose exit code this returns; a signal to this one lets it save first."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, _TerminatedError):  # Ctrl-C at a terminal has reached the process already
            process.terminate()
        process.wait()
        raise


@contextmanager
def _sigterm_as_interruption() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except _TerminatedError:
        print("sizemix: interrupted.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _unfinished(arguments: list[str]) -> Path | None:
    """The newest sweep of these arguments, in the usual place, that has not come to its end."""
    records = sorted(Path("multirun").glob(f"*/*/{_RECORD}"), reverse=True)
    same = (file for file in records if _read_record(file).get("arguments") == arguments)
    newest = next(same, None)
    if newest is None or _read_record(newest).get("finished"):
        return None
    lock = take_lock(newest.parent / _LOCK)
    if lock is None:  # it is being carried out
        return None
    lock.release()
    return newest.parent


def _names_folder(argument: str) -> bool:
    return argument.startswith("hydra.sweep.dir=")


def _naming(folder: Path) -> str:
    """Hydra's override for a sweep's folder, whatever is in its name."""
    escaped = str(folder).replace("'", r"\'")
    return f"hydra.sweep.dir='{escaped}'"


def _read_record(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def _write_record(folder: Path, arguments: list[str], *, finished: bool) -> None:
    record = {"arguments": arguments, "started_in": os.getcwd(), "finished": finished}
    text = json.dumps(record, indent=2) + "\n"
    write_atomically(folder / _RECORD, lambda file: file.write(text.encode()))
