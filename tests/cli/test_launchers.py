"""Sweeps by Hydra's other launchers and sweepers, with real runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sizemix.cli import train

_TRAIN = Path(__file__).parents[2] / "train.py"
_TINY = (
    *("data.train_images=100", "data.num_workers=0", "trainer.max_epochs=1", "recipe.base_batch_size=20"),
    *("sizes.base_size=14", "evaluation.eval_sizes=[14]", "evaluation.calibration_images=20"),
    *(
        "sizes.multiple_of=2",
        "evaluation.measure=gflops",
        "trainer.enable_progress_bar=false",
        "trainer.accelerator=cpu",
    ),
)


def sweep(tmp_path, *arguments):
    command = [sys.executable, str(_TRAIN), "-m", *_TINY, "hydra.sweep.dir=swept", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    return done, tmp_path / "swept"


def summaries(folder):
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*/summary.json"))]


def test_jobs_run_side_by_side_by_joblib(tmp_path):
    done, folder = sweep(tmp_path, "sizes=fixed", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert [summary["seed"] for summary in summaries(folder)] == [0, 1]
    assert json.loads((folder / "sweep.json").read_text())["finished"]


def test_a_job_that_fails_under_joblib_is_named_and_done_again(tmp_path):
    broken = ("sizes=fixed", "seed=0", "recipe.optimizer.lr=0.1,1e30", "hydra/launcher=joblib")
    done, folder = sweep(tmp_path, *broken)
    assert done.returncode == 2
    assert "1 of the jobs failed" in done.stderr
    assert len(summaries(folder)) == 1


@pytest.mark.slow
def test_jobs_run_by_submitit(tmp_path):
    done, folder = sweep(tmp_path, "sizes=fixed", "seed=0,1", "hydra/launcher=submitit_local")
    assert done.returncode == 0, done.stderr
    assert len(summaries(folder)) == 2


@pytest.mark.slow
def test_optuna_searches_on_validation_images(tmp_path):
    done, folder = sweep(tmp_path, "experiment=search_lr", "arm=fixed", "hydra.sweeper.n_trials=3")
    assert done.returncode == 0, done.stderr
    found = summaries(folder)
    assert len(found) == 3
    results = (folder / "optimization_results.yaml").read_text()
    assert f"best_value: {max(summary['validation']['final_top1'] for summary in found)}" in results


@pytest.mark.slow
def test_a_search_goes_on_behind_trials_that_fail(tmp_path):
    search = ("experiment=search_lr", "arm=fixed", "hydra.sweeper.n_trials=4")
    done, folder = sweep(tmp_path, *search, "recipe.label_smoothing=choice(0.0,2.0)")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    failed = len(list(folder.glob("*/failure.txt")))
    assert 0 < failed == 4 - len(summaries(folder))
    assert f"{failed} of the jobs failed" in done.stderr


@pytest.mark.slow
def test_a_search_without_a_trial_that_works_says_so(tmp_path):
    search = ("experiment=search_lr", "arm=fixed", "hydra.sweeper.n_trials=2", "recipe.label_smoothing=2")
    done, _ = sweep(tmp_path, *search)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "2 of the jobs failed" in done.stderr


@pytest.mark.slow
def test_a_search_proposes_what_it_has_found_again(tmp_path):
    sweep(tmp_path, "experiment=search_lr", "arm=fixed", "hydra.sweeper.n_trials=1")
    done, folder = sweep(tmp_path, "experiment=search_lr", "arm=fixed", "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished already") == 1
    assert len(summaries(folder)) == 2


def test_experiments_with_launchers_and_searches_are_listed_too(tmp_path):
    done, _ = sweep(
        tmp_path,
        *("experiment=search_lr", "hydra.sweeper.n_trials=2", "hydra/launcher=joblib", "arm=fixed", "dry_run=true"),
    )
    assert done.returncode == 0, done.stderr
    assert sum("recipe.optimizer" in line for line in done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dry_run=true",), "dry_run: expected a sweep (-m)"),
        (("-m", "dry_run=maybe"), "expected dry_run=true, or nothing"),
    ],
)
def test_a_dry_run_is_of_a_sweep_and_true(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert train.main(arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_jobs_compute_and_time_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    arms = ("arm=fixed,mixed_dplus", "match=compute")
    assert train.main(["-m", *_TINY, "hydra.sweep.dir=swept", *arms, "seed=0,1", "dry_run=true"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if "arm=" in line]
    assert len(rows) == 4
    assert all(" x " in row and " s " in row for row in rows)
    assert "4 jobs" in shown
    assert list(tmp_path.iterdir()) == []
