import subprocess
import sys

_SCRIPT = """
import os, sys
from types import SimpleNamespace
from torch import distributed
from sizemix.callbacks.unreadable import share_unreadable

rank = int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/meeting", rank=rank, world_size=2)
datamodule = SimpleNamespace(unreadable={"both.jpg", f"{rank}.jpg"})
share_unreadable(datamodule)
print(sorted(datamodule.unreadable))
"""


def test_every_rank_knows_what_any_could_not_read(tmp_path):
    ranks = [
        subprocess.Popen([sys.executable, "-c", _SCRIPT, tmp_path, str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    for rank in ranks:
        assert rank.communicate(timeout=100)[0] == "['0.jpg', '1.jpg', 'both.jpg']\n"
