"""The README's library example, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sizemix

_README = Path(__file__).parents[2] / "README.md"


def test_the_library_example_trains(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", _README.read_text(), flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "example"}
    exec(example, names)
    trainer, scheduler = names["trainer"], names["scheduler"]
    assert trainer.global_step == scheduler.planned.num_steps > 100
    assert trainer.callback_metrics["train/image_size"] in (20, 28, 36)
    assert trainer.callback_metrics["val/top1"] > 0.5


def test_every_public_name_is_there_and_importing_the_package_is_light():
    assert all(getattr(sizemix, name) for name in sizemix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sizemix.nonsense
    program = "import sys, sizemix; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
