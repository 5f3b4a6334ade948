"""A sweep goes on behind a failed job, and the same command continues it with what is missing."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from sizemix.cli import sweep, train
from sizemix.runs.folder import RunFolder

_SHORT = ("data.train_images=100", "trainer.max_epochs=1")
_PAIR = ("-m", "sizes=fixed", "seed=0,1", *_SHORT)
_SWEEP = ("-m", "sizes=fixed,mixed", "seed=0,1", *_SHORT)  # Hydra composes each job three times, at 0.2 s


class Runs:
    """Stands for the processes of the jobs: notes their folders, and lets some fail."""

    def __init__(self):
        self.started = []
        self.codes = {}

    def __call__(self, command):
        folder = RunFolder(command[-1])
        self.started.append(folder.path.name)
        code = self.codes.get(folder.path.name, 0)
        if not code:
            folder.save_summary({"validation": {"final_top1": 0.5}})
        return code


@pytest.fixture
def runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    runs = Runs()
    monkeypatch.setattr(sweep, "_wait_for", runs)
    return runs


def names(*indices):
    every = [f"{number}-resnet20_cifar-{sizes}-seed{seed}" for number, (sizes, seed) in enumerate(
        [("fixed", 0), ("fixed", 1), ("mixed", 0), ("mixed", 1)])]  # fmt: skip
    return [every[index] for index in indices]


def test_every_job_is_a_run_of_its_own(runs, tmp_path, capsys):
    assert train.main(_SWEEP) == 0
    assert runs.started == names(0, 1, 2, 3)
    (folder,) = (tmp_path / "multirun").glob("*/*")
    seeds = [RunFolder(folder / name).config().seed for name in runs.started]
    assert seeds == [0, 1, 0, 1]
    assert "Sweep finished" in capsys.readouterr().out


def test_the_sign_of_a_sweep_may_stand_anywhere(runs):
    assert train.main(["seed=0,1", "-m", "sizes=fixed"]) == 0
    assert len(runs.started) == 2


def test_a_sweep_that_is_refused_at_once_leaves_nothing_behind_and_takes_nothing_away(runs, tmp_path):
    assert train.main([*_SWEEP, "foo=3"]) == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert train.main([*_SWEEP, "foo=3", "hydra.sweep.dir=mine"]) == 2
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_failed_job_is_named_at_the_end_and_the_others_have_run(runs, capsys):
    runs.codes = {names(1)[0]: 1, names(2)[0]: -signal.SIGKILL}
    assert train.main(_SWEEP) == 2
    assert runs.started == names(0, 1, 2, 3)
    errors = capsys.readouterr().err
    assert f"2 of the jobs failed ({names(1)[0]}: exit code 1; " in errors
    assert f"{names(2)[0]}: SIGKILL)" in errors


def run_ids(tmp_path):
    return {path.name: RunFolder(path).config().run_id for path in (tmp_path / "multirun").glob("*/*/*-*")}


def test_the_same_command_goes_on_with_what_is_missing(runs, tmp_path, capsys):
    runs.codes = dict.fromkeys(names(1, 2), 1)
    assert train.main(_SWEEP) == 2
    ids = run_ids(tmp_path)
    runs.started, runs.codes = [], {names(2)[0]: 1}
    assert train.main(_SWEEP) == 2
    assert runs.started == names(1, 2)
    (folder,) = (tmp_path / "multirun").glob("*/*")
    assert f"Continuing the sweep in {folder.relative_to(tmp_path)}" in capsys.readouterr().out
    runs.started, runs.codes = [], {}
    assert train.main([f"resume={folder}"]) == 0
    assert runs.started == names(2)
    assert run_ids(tmp_path) == ids


def test_a_finished_sweep_is_begun_anew(runs, tmp_path):
    assert train.main(_PAIR) == 0
    time.sleep(1.1)  # folders are named by the second
    assert train.main(_PAIR) == 0
    assert runs.started == [*names(0, 1)] * 2
    assert len(list((tmp_path / "multirun").glob("*/*"))) == 2


def test_another_sweep_is_not_taken_for_it(runs):
    runs.codes = dict.fromkeys(names(1), 1)
    assert train.main(_PAIR) == 2
    runs.started = []
    time.sleep(1.1)
    assert train.main([*_PAIR, "recipe.optimizer.lr=0.1"]) == 2
    assert runs.started == names(0, 1)


def test_more_jobs_in_the_same_folder_run_only_the_new_ones(runs):
    assert train.main([*_SWEEP, "hydra.sweep.dir=here"]) == 0
    runs.started = []
    more = [argument.replace("seed=0,1", "seed=0,1,2") for argument in _SWEEP]
    assert train.main([*more, "hydra.sweep.dir=here"]) == 0
    assert runs.started == ["2-resnet20_cifar-fixed-seed2", "5-resnet20_cifar-mixed-seed2"]


_HOLD = """
import sys, time
from pathlib import Path
from sizemix.runs.lock import take_lock
lock = take_lock(Path(sys.argv[1]) / "sweep.lock")
print("held", flush=True)
time.sleep(60)
"""


def test_a_sweep_that_another_process_carries_out_is_left_alone(runs, tmp_path, capsys):
    runs.codes = dict.fromkeys(names(1), 1)
    assert train.main(_PAIR) == 2
    (folder,) = (tmp_path / "multirun").glob("*/*")
    runs.started = []
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(SystemExit):
                train.main([*_PAIR, f"hydra.sweep.dir={folder}"])
            assert runs.started == []
            assert "another process carries out the sweep" in capsys.readouterr().err
            time.sleep(1.1)
            assert train.main(_PAIR) == 2, "a sweep of its own"
            assert runs.started == names(0, 1)
        finally:
            other.kill()


_SWEEPER = """
import sys
from sizemix.cli import sweep
job = '''
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("begun", flush=True)
time.sleep(60)
'''
with sweep._sigterm_as_interruption():
    sweep._wait_for([sys.executable, "-c", job])
"""


def test_a_terminated_sweep_lets_its_job_save_first():
    command = [sys.executable, "-c", _SWEEPER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.terminate()
        out, errors = process.communicate(timeout=30)
    assert out == b"saved\n"
    assert process.returncode == 143
    assert re.fullmatch(rb"sizemix: interrupted\.\n", errors)


def test_what_a_sweep_was_asked_for_stands_in_its_folder(runs, tmp_path):
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 0
    record = json.loads((tmp_path / "here" / "sweep.json").read_text())
    assert record == {"arguments": list(_PAIR), "started_in": str(tmp_path), "finished": True}


def test_a_sweep_is_resumed_from_anywhere_whatever_its_folder_is_called(runs, tmp_path, monkeypatch):
    runs.codes = dict.fromkeys(names(1), 1)
    place = "it's, [mine]"
    escaped = place.replace("'", r"\'")
    assert train.main([*_PAIR, "model.checkpoint=weights.pth", f"hydra.sweep.dir='{escaped}'"]) == 2
    runs.started, runs.codes = [], {}
    monkeypatch.chdir("/")
    assert train.main([f"resume={tmp_path / place}"]) == 0
    assert runs.started == names(1)


def test_jobs_may_stand_deeper_than_the_sweep(runs, capsys):
    deep = (*_SWEEP, "hydra.sweep.dir=here", "hydra.sweep.subdir='${sizes._target_}/${seed}'")
    runs.codes = {"1": 1}
    assert train.main(deep) == 2
    assert "2 of the jobs failed (" in capsys.readouterr().err
    runs.started, runs.codes = [], {}
    assert train.main(deep) == 0
    assert runs.started == ["1", "1"]


def test_a_failure_that_has_been_mended_counts_no_longer(runs):
    runs.codes = dict.fromkeys(names(1), 1)
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 2
    runs.codes = {}
    more = [argument.replace("seed=0,1", "seed=0,1,2") for argument in _PAIR]
    assert train.main([*more, "hydra.sweep.dir=here"]) == 0


def test_a_resumed_sweep_keeps_its_options(runs, capsys):
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 0
    assert train.main(["resume=here", "trainer.max_epochs=2"]) == 2
    assert (
        "a resumed sweep keeps its options: expected none, got trainer.max_epochs=2; to change some, give the whole"
        in capsys.readouterr().err
    )
    assert train.main(["resume=here"]) == 0


def test_what_may_change_when_a_run_goes_on_does_not_make_it_another(runs, tmp_path):
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 0
    runs.started = []
    assert train.main([*_PAIR, "data.num_workers=1", "checkpoint.every_minutes=1", "hydra.sweep.dir=here"]) == 0
    assert runs.started == []


def test_a_job_that_goes_on_does_so_with_what_was_changed(runs, tmp_path):
    runs.codes = dict.fromkeys(names(1), 1)
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 2
    runs.codes = {}
    changed = ("evaluation.batch_size=50", "data.num_workers=1", "checkpoint.every_minutes=1")
    assert train.main([*_PAIR, *changed, "hydra.sweep.dir=here"]) == 0
    done, gone_on = (RunFolder(tmp_path / "here" / name).config() for name in names(0, 1))
    assert (gone_on.evaluation.batch_size, gone_on.data.num_workers, gone_on.checkpoint.every_minutes) == (50, 1, 1)
    assert done.evaluation.batch_size == 250


def test_a_folder_with_another_run_is_refused_with_what_differs(runs, capsys):
    assert train.main([*_PAIR, "hydra.sweep.dir=here"]) == 0
    assert train.main([*_PAIR, "recipe.optimizer.lr=0.1", "hydra.sweep.dir=here"]) == 2
    assert (
        "holds a run with another recipe.optimizer.lr; move that folder away to replace the run, or"
        in capsys.readouterr().err
    )


def test_a_sweep_with_a_bad_value_goes_on_with_another_in_its_place(runs, capsys):
    bad = ("-m", "seed=0,-1", *_SHORT)
    assert train.main([*bad, "hydra.sweep.dir=here"]) == 2
    assert "with other values the whole command with hydra.sweep.dir=here does." in capsys.readouterr().err
    runs.started = []
    good = ("-m", "seed=0,1", *_SHORT)
    assert train.main([*good, "hydra.sweep.dir=here"]) == 0
    assert runs.started == ["1-resnet20_cifar-mixed-seed1"]


def logger_options(folder):
    return {path.name: RunFolder(path).config().logger.additional for path in sorted(folder.glob("*-*"))}


def test_runs_of_a_sweep_share_a_group_and_arms_a_job_type(runs, tmp_path):
    assert train.main([*_SWEEP, "logger=wandb"]) == 0
    (folder,) = (tmp_path / "multirun").glob("*/*")
    options = logger_options(folder)
    assert {one.group for one in options.values()} == {f"{folder.parent.name}/{folder.name}"}
    assert [options[name].job_type for name in names(0, 1, 2, 3)] == [
        *["resnet20_cifar-fixed"] * 2,
        *["resnet20_cifar-mixed"] * 2,
    ]


def test_a_sweep_in_a_folder_of_ones_own_is_called_by_it_and_keeps_its_runs_when_moved(runs, tmp_path):
    assert train.main([*_PAIR, "logger=wandb", "hydra.sweep.dir=here"]) == 0
    assert {one.group for one in logger_options(tmp_path / "here").values()} == {"here"}
    (tmp_path / "here").rename(tmp_path / "there")
    runs.started = []
    assert train.main([*_PAIR, "logger=wandb", "hydra.sweep.dir=there"]) == 0
    assert runs.started == []


def test_a_group_that_the_user_names_stays(runs, tmp_path):
    mine = ("logger=wandb", "logger.additional.group=mine", "hydra.sweep.dir=here")
    assert train.main([*_PAIR, *mine]) == 0
    assert {one.group for one in logger_options(tmp_path / "here").values()} == {"mine"}
