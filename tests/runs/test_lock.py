import subprocess
import sys

import pytest

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.runs.lock import take_lock
from sizemix.training.run import carry_out

_HOLD = """
import sys, time
from pathlib import Path
from sizemix.runs.lock import take_lock
assert take_lock(Path(sys.argv[1])) is not None
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def another_process():
    """Starts a process that holds a lock; ends it at the end."""
    processes = []

    def hold(file):
        process = subprocess.Popen([sys.executable, "-c", _HOLD, str(file)], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_is_held_until_its_process_is_killed(another_process, tmp_path):
    other = another_process(tmp_path / "lock")
    assert take_lock(tmp_path / "lock") is None
    other.kill()
    other.wait()
    lock = take_lock(tmp_path / "lock")
    assert lock is not None
    lock.release()


def test_a_run_in_progress_is_not_carried_out_twice(another_process, compose, tmp_path):
    folder = RunFolder.create(tmp_path / "run", compose())
    another_process(folder.lock_file)
    with pytest.raises(UserError, match="another process carries out this run; wait for its end"):
        carry_out(folder)
    assert not folder.plan_csv.exists()
