"""What is read from a run folder, and what is said of one that cannot be read."""

import json
import shutil

import numpy as np
import pytest

from sizemix.comparison.reading import read_run
from sizemix.comparison.records import RunRecord, SetAside
from sizemix.errors import UserError
from sizemix.runs.discovery import find_runs

_ACCURACY = {16: 0.7, 28: 0.9}


def test_a_finished_run_is_read(fake_run):
    run = read_run(fake_run("run", _ACCURACY, "sizes=mixed", seed=3))
    assert isinstance(run, RunRecord)
    assert (run.seed, run.base_size, run.val_size, run.remarks) == (3, 28, 28, ())
    assert run.accuracy == {16: 0.7, 28: 0.9}, "with recalibrated statistics"
    assert run.recalibrated
    assert run.config["recipe.optimizer.lr"] == 0.2
    assert run.gflops[28] == pytest.approx(0.08)
    further = {"top1_training_statistics": 0.69, "balanced": 0.7, "top5": 1, "loss": 0.4, "calibration_error": 0.05}
    assert run.figures[16] == pytest.approx(further)
    assert [point.top1 for point in run.validations] == [0.5, 0.7, 0.8]
    assert [point.seconds for point in run.validations] == [20.0, 40.0, 60.0]
    assert run.validations[-1].steps == run.steps
    np.testing.assert_allclose(run.predictions.correct.mean(1), [0.7, 0.9])


def test_compute_by_step_adds_up_to_the_plan(fake_run):
    run = read_run(fake_run("run", _ACCURACY, "sizes=mixed"))
    assert run.compute.shape == (run.steps + 1,)
    assert run.compute[0] == 0
    assert np.all(np.diff(run.compute) > 0)
    assert run.compute[-1] == pytest.approx(run.relative_cost * run.images_planned)
    shapes = {row.image_size: (row.global_batch_size, row.num_repeats) for row in run.sizes}
    assert shapes == {16: (50, 3), 28: (50, 1), 40: (24, 1)}
    of_step = {size: images * copies * size**2 / 28**2 for size, (images, copies) in shapes.items()}
    assert np.unique(np.diff(run.compute).round(6)) == pytest.approx(sorted(set(of_step.values())))


def test_runs_of_before_predictions_and_costs_are_read_without_them(fake_run):
    run = read_run(fake_run("run", _ACCURACY, predictions=False, new=False, elapsed=False))
    assert run.predictions is None
    assert run.remarks == ("no predictions_test.npz, so intervals come from seeds alone.",)
    assert run.gflops == {}
    assert run.base_gflops is None
    assert run.validations[0].seconds is None
    assert set(run.figures[16]) == {"top1_training_statistics", "balanced"}


def test_a_network_without_batch_norm_counts_as_it_is(fake_run):
    folder = fake_run("run", _ACCURACY, predictions=False)
    summary = json.loads((folder / "summary.json").read_text())
    for point in summary["curve"]:
        point |= {name: None for name in point if name.endswith("_recalibrated")}
    (folder / "summary.json").write_text(json.dumps(summary))
    run = read_run(folder)
    assert not run.recalibrated
    assert run.accuracy[16] == pytest.approx(0.69)
    assert run.figures[16]["balanced"] == pytest.approx(0.69)


def _unlink(name):
    return lambda folder: (folder / name).unlink()


def _overwrite(name, text):
    return lambda folder: (folder / name).write_text(text)


def _without(key):
    def change(folder):
        summary = json.loads((folder / "summary.json").read_text())
        del summary[key]
        (folder / "summary.json").write_text(json.dumps(summary))

    return change


def _failed(folder):
    (folder / "summary.json").unlink()
    (folder / "failure.txt").write_text("out of memory at 40 px\n")


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        (_unlink("summary.json"), "unfinished", "no summary.json: 60 steps are logged"),
        (_failed, "failed", "out of memory at 40 px."),
        (_overwrite("summary.json", "{"), "damaged", "summary.json cannot be read"),
        (_overwrite("summary.json", "[]"), "damaged", "summary.json does not hold what a run writes"),
        (_overwrite("summary.json", "{}"), "damaged", "no curve"),
        (_without("plan"), "damaged", "no plan"),
        (_without("seed"), "damaged", "no seed"),
        (_overwrite("config.yaml", "a: [1"), "damaged", "config.yaml cannot be read"),
        (_overwrite("config.yaml", "- 1"), "damaged", "config.yaml cannot be read"),
        (_overwrite("config.yaml", "seed: 1"), "damaged", "no sizes.base_size"),
        (_overwrite("config.yaml", "a: ${b}"), "damaged", "config.yaml cannot be read"),
        (lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"), "damaged", "config.yaml cannot be read"),
        (_overwrite("summary.json", '{"curve": [], "seed": 0}'), "damaged", "summary.json"),
        (_overwrite("summary.json", '{"curve": 3, "plan": 1, "trained": 1}'), "damaged", "summary.json"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_named_with_what_is_missing(fake_run, change, state, reason):
    folder = fake_run("run", _ACCURACY, "sizes=fixed")
    change(folder)
    found = read_run(folder)
    assert isinstance(found, SetAside)
    assert (found.path, found.state) == (folder, state)
    assert reason in found.reason
    assert found.reason.endswith(".")
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (_unlink("plan.csv"), "plan.csv is missing or damaged"),
        (_overwrite("plan.csv", "step\n1\n"), "plan.csv is missing or damaged"),
        (_overwrite("plan.csv", "step,epoch,image_size,global_batch_size,num_repeats,position\n1,2\n"), "plan.csv"),
        (_unlink("metrics.csv"), "metrics.csv has no val/top1@28"),
        (_overwrite("metrics.csv", "step,val/top1@28\n1,many\n"), "metrics.csv has no val/top1@28"),
        (_overwrite("metrics.csv", ""), "metrics.csv has no val/top1@28"),
        (_overwrite("predictions_test.npz", "PK\x03\x04"), "predictions_test.npz is damaged"),
        (_overwrite("predictions_test.npz", ""), "predictions_test.npz is damaged"),
    ],
)
def test_a_run_that_lacks_a_part_is_read_without_it(fake_run, change, remark):
    folder = fake_run("run", _ACCURACY)
    change(folder)
    run = read_run(folder)
    assert isinstance(run, RunRecord)
    assert len(run.remarks) == 1
    assert remark in run.remarks[0]


def test_predictions_of_another_evaluation_are_not_used(fake_run):
    folder, other = fake_run("run", _ACCURACY), fake_run("other", {16: 0.5, 28: 0.6})
    shutil.copy(other / "predictions_test.npz", folder / "predictions_test.npz")
    run = read_run(folder)
    assert run.predictions is None
    assert "of another evaluation" in run.remarks[0]


def test_runs_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path):
    for name in ("0-a", "2-a", "10-a", "nested/run"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "2-a" / "wandb").mkdir()
    (tmp_path / "2-a" / "wandb" / "config.yaml").touch()
    (tmp_path / "3-failed").mkdir()
    (tmp_path / "3-failed" / "failure.txt").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_runs([tmp_path, tmp_path / "2-a"])]
    assert found == ["0-a", "2-a", "3-failed", "10-a", "nested/run"], "each once, a logger's own files not at all"


def test_a_path_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="which is no folder"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(UserError, match="which hold none"):
        find_runs([tmp_path])
