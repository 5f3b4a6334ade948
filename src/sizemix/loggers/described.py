"""What a run tells a logger of itself: its configuration and versions, and nothing of the machine's folders."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sizemix import __version__

_GIT_SECONDS = 10
_NOT_TOLD = ("logger", "hydra")  # loggers of one's own may be given keys as options


def described(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with `versions`, fit to leave this machine.

    Args:
        config: resolved, in plain values.
    """
    told = {name: _without_folders(value) for name, value in config.items() if name not in _NOT_TOLD}
    return told | {"versions": versions() | {"git_commit": git_commit(Path.cwd())}}


def versions() -> dict[str, str]:
    """Of what training depends on."""
    libraries = ("torch", "torchvision", "pytorch-lightning", "timm")
    return {
        "sizemix": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out there, with -dirty where files differ from it; None: no repository, or no git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _without_folders(value: Any) -> Any:
    """Of whole paths the last part: the folders above name users, projects and machines."""
    if isinstance(value, Mapping):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    if os.path.isabs(value) or value.startswith("~"):
        return Path(value).name
    home = str(Path.home())
    return value if home == os.sep else value.replace(home, "~")
