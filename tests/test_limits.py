"""A container's limits, read from made-up control groups."""

import os
from types import SimpleNamespace

import psutil
import pytest

from sizemix.limits import available_bytes, available_cores

GIB = 2**30


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Writes a control group's files, on a machine with 64 GiB free and eight cores."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))

    def write(folder, **files):
        (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (tmp_path / "cgroup" / folder / name.replace("__", ".")).write_text(f"{text}\n")

    return write


@pytest.fixture
def limits(tmp_path):
    """What a process of the groups in the text may use: bytes and cores."""

    def measured(membership):
        (tmp_path / "membership").write_text(membership)
        places = {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "membership"}
        return available_bytes(**places), available_cores(**places)

    return measured


def test_without_a_limit_the_machine_is_what_there_is(group, limits):
    group("", memory__max="max", memory__current=GIB, cpu__max="max 100000")
    assert limits("0::/\n") == (64 * GIB, 8)
    assert limits("") == (64 * GIB, 8)


def test_version_2_leaves_the_limit_less_what_is_used_and_cannot_be_given_back(group, limits):
    group("", memory__max=4 * GIB, memory__current=3 * GIB, memory__stat=f"anon 5\ninactive_file {GIB}",
          cpu__max="150000 100000")  # fmt: skip
    assert limits("0::/\n") == (2 * GIB, 1.5)


def test_version_1_likewise(group, limits):
    group("memory", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=GIB, memory__stat="total_inactive_file 0")
    group("cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert limits("4:memory:/\n1:cpu,cpuacct:/\n0::/\n") == (GIB, 8)
    group("cpu", cpu__cfs_quota_us=300000)
    assert limits("4:memory:/\n1:cpu,cpuacct:/\n") == (GIB, 3)


def test_the_tightest_of_the_groups_around_counts(group, limits):
    group("slice", memory__max=3 * GIB, memory__current=GIB, cpu__max="200000 100000")
    group("slice/job", memory__max="max", memory__current=GIB, cpu__max="400000 100000")
    group("other", memory__max=1, memory__current=0)
    assert limits("0::/slice/job\n") == (2 * GIB, 2)


def test_a_path_of_the_host_that_the_container_does_not_see_is_passed_over(group, limits):
    group("memory", memory__limit_in_bytes=GIB, memory__usage_in_bytes=0)
    assert limits("4:memory:/docker/0123\n")[0] == GIB


def test_more_used_than_allowed_leaves_nothing(group, limits):
    group("", memory__max=GIB, memory__current=2 * GIB)
    assert limits("0::/\n")[0] == 0
