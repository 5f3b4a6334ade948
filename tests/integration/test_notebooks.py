"""The notebooks run from top to bottom, and draw."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

_NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
_OF_MINUTES = ("fixed_vs_mixed",)  # which trains four runs
# What a notebook shows at leisure, here with fewer images and sizes; nothing else is changed.
_BRIEFLY = {
    "one_model_many_sizes": {
        "data.train_images=2000": "data.train_images=200",
        "evaluation.eval_sizes=[16,20,24,28,32,36]": "evaluation.eval_sizes=[16,28]",
        "evaluation.calibration_images=1280": "evaluation.calibration_images=128",
        "evaluation.eval_sizes=[18,22,26,28]": "evaluation.eval_sizes=[18]",
    }
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in _OF_MINUTES)) for path in _NOTEBOOKS],
)
def test_a_notebook_runs_and_shows_its_pictures(path, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setitem(os.environ, "PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(path, as_version=4)
    kept = _pictures(notebook)
    _shorten(notebook, _BRIEFLY.get(path.stem, {}))
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert _pictures(notebook) == kept > 1, "and those that it is kept with are as many"


def _shorten(notebook, briefly):
    for long, short in briefly.items():
        (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and long in cell.source)
        cell.source = cell.source.replace(long, short)


def _pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_notebooks():
    assert {path.stem for path in _NOTEBOOKS} == {"fixed_vs_mixed", "one_model_many_sizes"}
