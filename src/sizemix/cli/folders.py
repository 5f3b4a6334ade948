"""The folder that Hydra makes for a run or a sweep: a sentence where it cannot, nothing left where none begins."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from sizemix.errors import UserError

_made: list[Path] = []  # innermost first, from Hydra, which makes NewFolders and returns nothing


class NewFolders(Callback):
    """Notes which folders Hydra is about to make (conf/train.yaml names this)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls this before it makes the run's folder."""
        HydraConfig.instance().set_config(config)  # as Hydra does next: the run's name asks for the groups' choices
        note_new(Path(config.hydra.run.dir))


def note_new(folder: Path) -> None:
    """Notes which folders are new with this one, before anything makes them."""
    _made[:] = [place for place in (folder.absolute(), *folder.absolute().parents) if not place.exists()]


def is_new(folder: Path) -> bool:
    """Whether this command has made the folder."""
    return folder.absolute() in _made


@contextmanager
def made_by_hydra(option: str) -> Iterator[None]:
    """Around what makes a folder and writes into it.

    Args:
        option: that names the folder.

    Raises:
        UserError: it cannot be made, or not be written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:  # Hydra has made it one: a choice that does not exist
            raise
        raise UserError(
            f"{option}: expected a folder that can be written, got {error.filename} ({error.strerror}); choose another."
        ) from error


def remove_empty_ones() -> None:
    """Removes the folders that Hydra has made for this command, as far as nothing stands in them."""
    for place in _made:
        with suppress(OSError):  # somebody has put something there
            place.rmdir()
    _made.clear()
