import json

import pytest
from omegaconf import OmegaConf

from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder


def config():
    return OmegaConf.create({"seed": 1, "run_id": None, "twice": "${seed}"})


def test_a_new_run_holds_its_resolved_configuration_and_an_id(tmp_path):
    RunFolder.create(tmp_path / "run", config())
    kept = RunFolder.open(tmp_path / "run").config()
    assert kept.twice == 1
    assert len(kept.run_id) == 8


def test_a_folder_holds_one_run_only(tmp_path):
    RunFolder.create(tmp_path, config())
    with pytest.raises(UserError, match="holds a run already; continue it with resume="):
        RunFolder.create(tmp_path, config())


def test_a_run_that_was_refused_before_it_began_makes_room_for_the_next(tmp_path):
    refused = RunFolder.create(tmp_path, config())
    refused.failure_file.write_text("expected 32, got 31.")
    refused.split_csv.write_text("of other photos")
    folder = RunFolder.create(tmp_path, config())
    assert not folder.failure_file.exists()
    assert not folder.split_csv.exists()
    folder.failure_file.write_text("the disk is full")
    folder.plan_csv.write_text("it has begun")
    with pytest.raises(UserError, match="holds a run already"):
        RunFolder.create(tmp_path, config())


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected a run folder with a config\.yaml"):
        RunFolder.open(tmp_path)


def test_a_sweep_folder_is_answered_with_its_runs(tmp_path):
    RunFolder.create(tmp_path / "sweep" / "0-fixed", config())
    with pytest.raises(UserError, match=r"expected one run folder, got .*sweep, which holds 1; give one, as .*0-fixed"):
        RunFolder.open(tmp_path / "sweep")


def test_a_run_is_finished_with_its_summary(tmp_path):
    folder = RunFolder.create(tmp_path, config())
    assert not folder.finished
    folder.save_summary({"top1": 0.5})
    assert folder.finished
    assert json.loads(folder.summary_file.read_text()) == {"top1": 0.5}
