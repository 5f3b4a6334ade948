"""`sizemix plan`: what it prints and writes, and that training follows it."""

import csv
import re

import pytest

from sizemix.cli import plan
from sizemix.runs.folder import RunFolder
from sizemix.training.assembly import assemble
from sizemix.training.forecast import Images, count_images, forecast
from sizemix.training.run import fit

_SMALL = (
    "data.train_images=100",
    "sizes.image_sizes=[8,16]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=16",
    "recipe.base_batch_size=20",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_it_prints_one_table_and_writes_it(tmp_path, capsys):
    assert plan.main([*_SMALL, "out=here"]) == 0
    text = capsys.readouterr().out
    assert "Plan: 2 epochs, 10 steps, 200 images" in text
    assert re.search(r"^ *8 px", text, re.MULTILINE)
    assert "FLOPs in all" in text
    with (tmp_path / "here" / "sizes.csv").open(newline="") as file:
        assert sum(int(row["steps"]) for row in csv.DictReader(file)) == 10
    assert (tmp_path / "here" / "plan.png").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"here", "cache"}, "nothing trains, no run folder"


def test_training_follows_the_plan_that_was_shown(tmp_path, compose):
    config = compose(*_SMALL, "trainer.enable_progress_bar=false", "training.imbalance=oversample")
    shown = forecast(config, count_images(config), probe=False).plan
    folder = RunFolder(tmp_path / "run")
    run = assemble(config, folder)
    fit(run, folder)
    assert run.scheduler.planned.fingerprint == shown.fingerprint


def test_images_need_not_be_there(tmp_path, capsys):
    arguments = ("data=imagenet", "num_images=1281167", "model=resnet18", "recipe.base_batch_size=256",
                 "trainer.max_epochs=1", "sizes=mixed_imagenet_fast")  # fmt: skip
    assert plan.main(arguments) == 0
    text = capsys.readouterr().out
    assert "1,281," in text
    assert "compute: " in text
    assert "0.46 x the same images at 224 px" in text


def test_a_probe_adds_the_expected_time(compose):
    spent = forecast(compose(*_SMALL), Images(100, 10), probe=True)
    assert spent.measured.keys() == {8, 16}
    assert all(step.seconds > 0 for step in spent.measured.values())
    assert spent.measured[16].peak_bytes is None, "known on CUDA devices only"


def test_micro_batches_follow_one_another(compose, monkeypatch):
    one = forecast(compose(*_SMALL), Images(100, 10), probe=True).measured[16]
    four = forecast(compose(*_SMALL, "trainer.accumulate_grad_batches=4"), Images(100, 10), probe=True).measured[16]
    assert four.seconds > one.seconds / 3, "four micro-batches of a quarter of the images"


def test_memory_is_measured_for_its_budget(compose):
    planned = forecast(compose(*_SMALL, "sizes.budget=memory"), Images(2000, 10), probe=False).plan
    assert {shape.global_batch_size for shape in planned.inputs.shapes.values()} == {96}, "a twentieth of 2,000 images"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe=maybe"], "probe: expected true or false, got maybe"),
        (["num_images=many"], "num_images: expected a whole number of at least 1, got many"),
        (["num_images=0"], "num_images: expected a whole number of at least 1, got 0"),
        (["num_classes=5"], "num_classes: expected num_images beside it"),
        (["sizes=mixed,fixed"], "expected the options of one run, got several values"),
        (["resume=outputs"], "expected the options of a new run"),
        (["data=folder"], "expected a value for data.root, got none"),
        (["sizes=stages", "trainer.max_epochs=2"], "trainer.max_epochs: expected at least 4 .*, got 2"),
        (["model=nothing"], "model: expected one of"),
        (["out=/proc/plan"], "out: expected a folder that can be written, got /proc/plan"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, arguments, message):
    assert plan.main(arguments) == 2
    errors = capsys.readouterr().err
    assert re.match(f"sizemix: .*{message}", errors), errors
    assert len(errors.splitlines()) == 1
