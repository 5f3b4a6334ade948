import csv
import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizemix.cli.evaluate import main
from sizemix.inference.loading import load
from sizemix.models.bank import BatchNormBank
from sizemix.runs.folder import RunFolder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_evaluated_again_exactly_and_leaves_the_checkpoint_as_it_is(small_run, tmp_path, capsys):
    before = small_run.last_checkpoint.read_bytes()
    out = tmp_path / "out"
    options = ["evaluation.measure=gflops", "trainer.enable_progress_bar=false", "--max-gflops", "0.013"]
    assert main([str(small_run.path), "--out", str(out), *options]) == 0
    assert (out / "curve.csv").read_text() == small_run.evaluation.curve_csv.read_text()
    assert (out / "per_class.csv").read_text() == small_run.evaluation.per_class_csv.read_text()
    assert small_run.last_checkpoint.read_bytes() == before
    shown = capsys.readouterr().out
    assert "calibration error" in shown
    assert "Deploy at 12 px" in shown, "20 px would take more than 0.013 GFLOPs"
    assert json.loads((out / "curve.json").read_text())["advice"]["image_size"] == 12


def test_other_sizes_join_the_runs_bank_and_cost_is_measured(copied, tmp_path, capsys):
    options = ["evaluation.eval_sizes=[14]", "trainer.enable_progress_bar=false", "--robustness"]
    assert main([str(copied.path), "--out", str(tmp_path), *options]) == 0
    assert 14 in BatchNormBank.load(copied.evaluation.bank_file).statistics
    assert load(copied.path, image_size=14).image_size == 14
    (cost,) = rows(tmp_path / "cost.csv")
    assert float(cost["latency_low_ms"]) <= float(cost["latency_ms"]) <= float(cost["latency_high_ms"])
    assert float(cost["images_per_second"]) > 0
    (steady,) = rows(tmp_path / "robustness.csv")
    assert 0 < float(steady["shift_consistency"]) <= 1
    assert 0 <= float(steady["top1_at_2x"]) <= 1
    assert "x 0.71" in capsys.readouterr().out
    figures = json.loads((tmp_path / "curve.json").read_text())
    assert figures["advice"]["sentence"].startswith("Deploy at 14 px")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_wish_that_no_size_fulfils_is_refused_when_the_results_are_written(small_run, tmp_path, capsys):
    options = ["evaluation.eval_sizes=[12]", "evaluation.measure=gflops", "--min-top1", "1.0"]
    assert main([str(small_run.path), "--out", str(tmp_path), *options]) == 2
    assert "expected a size with at least 100.0% top-1, got none of 12 px" in capsys.readouterr().err
    assert (tmp_path / "curve.csv").exists()


def test_a_run_keeps_its_own_results_and_its_bank(copied, tmp_path, capsys):
    """Its network is deployed with the statistics that it was advised with."""
    kept = {file: file.read_bytes() for file in copied.path.glob("*.*")}
    assert main([str(copied.path), "--out", str(copied.path)]) == 2
    assert "--out: expected a folder for results, got the run" in capsys.readouterr().err
    options = ["evaluation.eval_sizes=[14]", "evaluation.calibration_transform=train", "evaluation.measure=gflops"]
    assert main([str(copied.path), "--out", str(tmp_path / "out"), *options, "data.num_workers=0"]) == 0
    assert "Calibrated otherwise than the run" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in copied.path.glob("*.*")} == kept
    assert list(BatchNormBank.load(tmp_path / "out" / "bn_bank.safetensors").statistics) == [14]


@pytest.mark.parametrize("damage", ["lost", "cut", "of other weights"])
def test_a_bank_that_is_none_is_made_anew(copied, tmp_path, damage, capsys):
    file = copied.evaluation.bank_file
    bank = BatchNormBank.load(file)
    if damage == "lost":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:300])
    else:
        BatchNormBank("0" * 64, bank.calibration, bank.statistics).save(file)
    assert main([str(copied.path), "evaluation.measure=gflops", "data.num_workers=0"]) == 0
    assert f"{file} has these sizes now" in capsys.readouterr().out
    assert BatchNormBank.load(file).weights == bank.weights
    assert load(copied.path).image_size in bank.statistics


def test_other_photos_are_not_chosen_by_the_runs_lists(photo_run, photos, tmp_path):
    run = RunFolder(shutil.copytree(photo_run.path, tmp_path / "run"))
    config = run.config()
    config.data.split_file, config.data.train_images = str(run.split_csv), 4
    run.save_config(config)
    renamed = tmp_path / "photos"
    for file in photos.rglob("*.*"):
        if file.is_file():
            (renamed / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, renamed / file.parent.name / f"other-{file.name}")
    options = (f"data.root={renamed}", "evaluation.measure=gflops", "data.num_workers=0")
    assert main([str(run.path), "--out", str(tmp_path / "out"), *options]) == 0
    assert all("other-" in row["path"] for row in rows(tmp_path / "out" / "split.csv"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "--min-top1", "80"], "--min-top1: expected a number above 0 and at most 1, got 80"),
        (["RUN", "--max-latency-ms", "5", "evaluation.measure=gflops"], "--max-latency-ms: expected measured time"),
        (["RUN", "--out", "/proc/nowhere"], "expected to read or write /proc/nowhere"),
        (["RUN", "seed=3"], "expected options of evaluation, data, trainer and logger alone, got seed=3"),
        (["RUN", "evaluation.sizes=[3]"], "unknown option evaluation.sizes"),
        (["RUN", "evaluation.eval_sizes=3"], "evaluation.eval_sizes: expected a list"),
        (["RUN", "RUN"], "expected a run's folder and OPTION=VALUE"),
        (["RUN", "--nonsense"], "expected a run's folder and OPTION=VALUE"),
        (["nowhere"], "expected a run folder"),
        ([], "expected trained weights, got none"),
    ],
)
def test_mistakes_are_sentences(small_run, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main([str(small_run.path) if one == "RUN" else one for one in arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_timm_network_that_was_never_ours_is_evaluated_on_a_folder(photos, tmp_path, monkeypatch, capsys):
    """Its 1,000 outputs are ImageNet's; the folders bear names of four of these."""
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=1000)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    imagenet = tmp_path / "photos"
    imagenet.mkdir()
    names = ("n01440764", "n01443537", "n01484850", "n15075141")
    for name, folder in zip(names, sorted(photos.iterdir()), strict=True):
        (imagenet / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    command = ["model=timm", "model.name=test_resnet", "model.checkpoint=weights.safetensors", "data=folder"]
    options = ["data.root=photos", "evaluation.eval_sizes=[64,96]", "sizes.base_size=96", "evaluation.measure=gflops"]
    assert main([*command, *options, "data.test_fraction=0.5", "data.num_workers=0"]) == 0
    found = json.loads((tmp_path / "evaluation" / "curve.json").read_text())
    assert [point["num_images"] for point in found["curve"]] == [32, 32]
    assert {row["class"] for row in rows(tmp_path / "evaluation" / "per_class.csv")} == set(names)
    assert {row["split"] for row in rows(tmp_path / "evaluation" / "split.csv")} == {"train", "val", "test"}
    assert "Deploy at" in capsys.readouterr().out


_QUICK = ("evaluation.eval_sizes=[12]", "evaluation.measure=gflops", "trainer.enable_progress_bar=false")


def test_an_evaluation_is_shown_to_tensorboard_as_well(small_run, tmp_path):
    assert main([str(small_run.path), "--out", str(tmp_path), *_QUICK, "logger=tensorboard"]) == 0
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    seen = EventAccumulator(str(file)).Reload()
    (top1,) = seen.Scalars("curve/top1")
    assert (top1.step, top1.value) == (12, pytest.approx(float(rows(tmp_path / "curve.csv")[0]["top1_recalibrated"])))
    assert "evaluation/picture" in seen.Tags()["images"]
