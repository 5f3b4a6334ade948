"""`sizemix plan`: what it prints and writes, and that training follows it."""

import csv
import re
from dataclasses import replace

import pytest
import torch

from sizemix.cli import plan
from sizemix.models.speed import StepSpeed
from sizemix.runs.folder import RunFolder
from sizemix.training import measured_steps
from sizemix.training.assembly import assemble
from sizemix.training.forecast import forecast
from sizemix.training.images import serve
from sizemix.training.plan_inputs import Images, count_images, images_of
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


def test_a_step_takes_all_its_micro_batches(compose, monkeypatch):
    def half_a_second(net, image_sizes, **options):
        return {size: StepSpeed(num_images, 0.5, None) for size, num_images in image_sizes.items()}

    monkeypatch.setattr(measured_steps, "measured_steps", half_a_second)
    for micro_batches in (1, 4):
        config = compose(*_SMALL, f"trainer.accumulate_grad_batches={micro_batches}")
        measured = forecast(config, Images(100, 10), probe=True).measured
        assert {size: step.seconds for size, step in measured.items()} == {
            size: pytest.approx(0.5 * micro_batches) for size in (8, 16)
        }


def test_a_plan_counts_the_images_of_an_oversampled_pass(compose, tiny_dataset):
    rows = torch.tensor([0, 1, 2, 4, 6, 8])  # one of a class, five of the other
    train = replace(
        tiny_dataset.train, images=tiny_dataset.train.images[rows], targets=tiny_dataset.train.targets[rows]
    )
    dataset = replace(tiny_dataset, train=train)
    config = compose("training.imbalance=oversample")
    assert images_of(config, dataset).num_images == 10
    assert serve(config, dataset, dataset.preprocessing).num_images == 10
    assert images_of(compose(), dataset).num_images == 6


def test_machines_and_devices_share_a_step(compose):
    config = compose(*_SMALL, "trainer.devices=2", "trainer.num_nodes=5")
    assert forecast(config, Images(100, 10), probe=False).plan.inputs.num_shards == 10


def test_memory_is_measured_for_its_budget(compose):
    planned = forecast(compose(*_SMALL, "sizes.budget=memory"), Images(2000, 10), probe=False).plan
    assert {shape.global_batch_size for shape in planned.inputs.shapes.values()} == {96}, "a twentieth of 2,000 images"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe=maybe"], "probe: expected true or false, got maybe"),
        (["num_images=many"], "num_images: expected a whole number of at least 1, got many"),
        (["num_images=0"], "num_images: expected a whole number of at least 1, got 0"),
        (["num_images=90", "training.imbalance=oversample"], "num_images: expected no training.imbalance=oversample"),
        (["num_images=90", "data.train_images=50"], "num_images: expected no data.train_images beside it, got 50"),
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
