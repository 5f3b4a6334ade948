"""The soak tool: briefly in every test run, over its whole matrix behind the slow marker."""

import subprocess
import sys
from pathlib import Path

import pytest

_TOOL = Path(__file__).parents[2] / "tools" / "soak.py"


def soak(folder, *arguments):
    command = [sys.executable, str(_TOOL), "--folder", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_run_killed_at_random_moments_ends_like_one_that_nobody_touched(tmp_path):
    ended = soak(tmp_path / "soak", "--kills=3", "--only=2 workers, 1 processes, accumulation 2, averaging")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 of 1 configurations equal" in ended.stdout


@pytest.mark.slow
def test_every_configuration_killed_at_random_moments_ends_like_one_that_nobody_touched(tmp_path):
    ended = soak(tmp_path / "soak", "--kills=72")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "24 of 24 configurations equal" in ended.stdout
