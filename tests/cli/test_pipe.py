"""Commands whose output nobody reads to its end, as with `| head -1`."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

_TRAIN = Path(__file__).parents[2] / "train.py"
_PLAN = (
    "plan",
    "data=imagenet",
    "num_images=1000",
    "num_classes=3",
    "model=timm",
    "model.name=test_resnet",
    "sizes=mixed",
)


@pytest.mark.parametrize(
    "command",
    [("-m", "sizemix.cli.main", "train", "--help"), (_TRAIN, "--help"), ("-m", "sizemix.cli.main", *_PLAN)],
    ids=["help", "script", "plan"],
)
def test_a_reader_that_leaves_ends_a_command_quietly(tmp_path, command):
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        process.stdout.close()  # before anything is written
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode in (1, 128 + signal.SIGPIPE), "1 is rich's"
