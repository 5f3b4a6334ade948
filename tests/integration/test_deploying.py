"""docs/how-to-deploy.md as it stands there: its commands, then its snippets; those of exports without sizemix."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

_TEXT = (Path(__file__).parents[2] / "docs" / "how-to-deploy.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("photo_run", ["test_resnet"], indirect=True)
def test_the_how_to_runs_as_it_stands(photo_run, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photo_run.path, "RUN")
    photo = min(photos.rglob("*.jpg"))
    shutil.copy(photo, "photo.jpg")
    text = _TEXT.replace("128", "64").replace("224", "96").replace("--max-gflops 2", "--max-gflops 0.1")
    for command in re.findall(r"^    sizemix ((?:cascade|export) .*)$", text, flags=re.MULTILINE):
        name, *arguments = shlex.split(command)
        assert import_module(f"sizemix.cli.{name}").main(arguments) == 0, capsys.readouterr().err
    ours, plain = text.split("## Without sizemix")
    snippets = r"```python\n(.*?)```"
    names: dict[str, object] = {}
    for snippet in re.findall(snippets, ours, flags=re.DOTALL):
        exec(snippet, names)
    assert "px" in capsys.readouterr().out
    assert [answer.image_size for answer in names["answers"]] == [64, 64, 64]
    program = "\n".join(["import sys", 'sys.modules["sizemix"] = None', *re.findall(snippets, plain, flags=re.DOTALL)])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (expected,) = names["classifier"].set_image_size(96).predict(["photo.jpg"])
    assert done.stdout.split() == [expected.class_name] * 3
