"""Page faults of a process that makes and frees large tensors, as steps on a CPU do."""

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource
import torch
from sizemix.training.host_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{prepare}
for step in range(12):
    tensors = [torch.ones(2**20) for _ in range(8)]  # 4 MiB each
    del tensors
    if step == 1:
        warm = faults()
print(faults() - warm)
"""


def faults(prepare, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _FAULTS.format(prepare=prepare)]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="another C library than glibc")
def test_memory_that_is_freed_is_kept_unless_the_user_has_said_otherwise():
    kept = faults("keep_freed_memory()")
    assert faults("") > 20 * kept, "glibc fetches it anew, or this shows nothing"
    assert faults("keep_freed_memory()", MALLOC_MMAP_THRESHOLD_="131072") > 20 * kept
