"""What this process may use of the machine: memory and CPU cores, a container's limits taken into account."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

# Of both versions of Linux's control groups: limit, use, and the file cache within the use, which gives way at need.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(*, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Memory that this process can still take: the machine's, or what a container's limit leaves, if that is less.

    Args:
        cgroups: where the control groups are mounted.
        membership: file that says which of them hold this process.
    """
    left = [_bytes_left(folder) for folder in _own_cgroups("memory", cgroups, membership)]
    return min([psutil.virtual_memory().available, *(number for number in left if number is not None)])


def available_cores(*, cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float:
    """CPU cores that this process may run on; a container's quota can be a fraction.

    Args:
        cgroups: where the control groups are mounted.
        membership: file that says which of them hold this process.
    """
    quotas = [_core_quota(folder) for folder in _own_cgroups("cpu", cgroups, membership)]
    return min([len(os.sched_getaffinity(0)), *(number for number in quotas if number is not None)])


def _own_cgroups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """Folders of the groups that hold this process, from its own outwards; inside a container some are not there."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and controller not in controllers.split(","):
            continue
        mounted = cgroups / controller if controllers else cgroups  # version 2 has one tree for all controllers
        own = mounted / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mounted))


def _bytes_left(folder: Path) -> int | None:
    for limit_file, use_file, cache_entry in _MEMORY_FILES:
        limit = _words(folder / limit_file)
        if limit and limit[0] != "max":
            statistics = _words(folder / "memory.stat")
            cache = int(statistics[statistics.index(cache_entry) + 1]) if cache_entry in statistics else 0
            return max(0, int(limit[0]) - int(_words(folder / use_file)[0]) + cache)
    return None


def _core_quota(folder: Path) -> float | None:
    quota = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
    if not quota or quota[0] in ("max", "-1"):
        return None
    return int(quota[0]) / int(quota[1])


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.is_file() else []
