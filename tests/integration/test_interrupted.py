"""A run that something ends goes on as if nothing had happened: signals, a full disk, an exception, a stop."""

import csv
import errno
import os
import signal

import hydra
import pytest
import torch
import wandb
from hydra.core.global_hydra import GlobalHydra

from sizemix.callbacks.throughput import Throughput
from sizemix.checkpointing import signals
from sizemix.cli.compose import CONF
from sizemix.runs import atomic
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.classifier import ImageClassifier

_SMALL = (
    "name=test",
    "data.train_images=60",
    "data.num_workers=0",
    "sizes.image_sizes=[8,12,16]",
    "sizes.shares=[0.4,0.3,0.3]",
    "sizes.base_size=12",
    "model.name=resnet8_cifar",
    "model.drop_path_rate=0.3",
    "recipe.base_batch_size=12",
    "evaluation.eval_sizes=[8]",
    "evaluation.calibration_images=24",
    "trainer.max_epochs=3",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "+trainer.limit_val_batches=1",
    "checkpoint.every_steps=4",
)
_EPOCH_STEPS = 5


def begin(path, *options):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return RunFolder.create(path, hydra.compose("train", [*_SMALL, *options]))


def carry_out(folder):
    """Begins the run or continues it; returns the exit code."""
    return run.main([str(folder.path)])


def saved(folder):
    return torch.load(folder.last_checkpoint, weights_only=True)


def rows_of(folder):
    with folder.metrics_csv.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if "throughput" not in name} for row in csv.DictReader(file)]


def assert_same_end(folder, whole):
    expected, state = saved(whole), saved(folder)
    assert state["global_step"] == expected["global_step"]
    differing = [
        name for name, value in expected["state_dict"].items() if not torch.equal(value, state["state_dict"][name])
    ]
    assert not differing
    assert rows_of(folder) == rows_of(whole)
    for one, other in ((folder.evaluation.curve_csv, whole.evaluation.curve_csv), (folder.plan_csv, whole.plan_csv)):
        assert one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing ends."""
    folder = begin(tmp_path_factory.mktemp("whole") / "run")
    assert carry_out(folder) == 0
    return folder


@pytest.fixture
def before_batch(monkeypatch):
    """Lets something happen, once, before a batch of the run."""

    def arrange(action, *, number):
        batches = iter(range(10**6))

        def hook(self, trainer, *_):
            if next(batches) == number:
                action()

        monkeypatch.setattr(Throughput, "on_train_batch_start", hook)

    return arrange


@pytest.fixture
def in_validation(monkeypatch):
    """Lets something happen, once, in the second validation of the run."""

    def arrange(action):
        validate, calls = ImageClassifier.validation_step, iter(range(10**6))

        def hook(self, *arguments):
            if next(calls) == 1:
                action()
            return validate(self, *arguments)

        monkeypatch.setattr(ImageClassifier, "validation_step", hook)

    return arrange


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("batch", "step"),
    [(5, 3), (8, 5)],
    ids=["in a second micro-batch", "in an epoch's last step"],
)
def test_a_signal_saves_the_whole_step_and_the_run_goes_on_exactly(
    tmp_path, whole, before_batch, capfd, monkeypatch, batch, step
):
    folder = begin(tmp_path / "run")
    before_batch(send(signal.SIGTERM), number=batch)
    assert carry_out(folder) == 143
    assert capfd.readouterr().err.split("\n\n") == [
        "\nStopping after this step; once more stops at once.",
        f"sizemix: interrupted; continue with resume={folder.path}\n",
    ]
    assert saved(folder)["global_step"] == step
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert f"Continuing after step {step}." in capfd.readouterr().out
    assert_same_end(folder, whole)


def test_a_signal_in_validation_waits_for_its_end_and_the_epochs_checkpoint(
    tmp_path, whole, in_validation, monkeypatch
):
    folder = begin(tmp_path / "run")
    in_validation(send(signal.SIGINT))
    assert carry_out(folder) == 130
    assert saved(folder)["global_step"] == 2 * _EPOCH_STEPS
    assert rows_of(folder) == rows_of(whole)[: len(rows_of(folder))]
    assert rows_of(folder)[-1]["val/top1@12"]
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert_same_end(folder, whole)


def test_a_signal_in_the_final_evaluation_ends_it_at_once_and_costs_no_training(tmp_path, whole, monkeypatch, capfd):
    folder = begin(tmp_path / "run")
    monkeypatch.setattr(run, "evaluate_run", lambda *_, **__: send(signal.SIGTERM)())
    assert carry_out(folder) == 143
    assert capfd.readouterr().err == f"\nsizemix: interrupted; continue with resume={folder.path}\n"
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert_same_end(folder, whole)
    assert carry_out(folder) == 0
    assert f"Finished already: {folder.path}" in capfd.readouterr().out


def test_a_second_signal_ends_the_run_at_once_and_without_a_save(tmp_path, before_batch, monkeypatch, capfd):
    monkeypatch.setattr(signals, "_ONE_WISH_SECONDS", 0)
    folder = begin(tmp_path / "run")

    def send_two():
        send(signal.SIGTERM)()
        send(signal.SIGINT)()

    before_batch(send_two, number=13)
    assert carry_out(folder) == 130
    assert saved(folder)["global_step"] == _EPOCH_STEPS
    assert capfd.readouterr().err.endswith(f"\n\nsizemix: interrupted; continue with resume={folder.path}\n")


def test_under_slurm_usr1_saves_and_puts_the_job_back_into_the_queue(tmp_path, before_batch, monkeypatch, capfd):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr(run, "requeue", lambda: "Slurm: back in the queue.")
    folder = begin(tmp_path / "run")
    before_batch(send(signal.SIGUSR1), number=4)
    assert carry_out(folder) == 138
    assert saved(folder)["global_step"] == 3
    assert capfd.readouterr().err.endswith("Slurm: back in the queue.\n")


def test_a_full_disk_costs_one_sentence_and_the_steps_behind_the_last_save(
    tmp_path, whole, before_batch, monkeypatch, capfd
):
    folder = begin(tmp_path / "run")

    def no_room(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before_batch(lambda: monkeypatch.setattr(atomic.os, "fsync", no_room), number=9)  # the first save was in step 4
    assert carry_out(folder) == 1
    (sentence,) = capfd.readouterr().err.strip().splitlines()
    assert sentence.startswith(f"sizemix: {folder.path}")
    assert "got: No space left on device" in sentence
    assert sentence.endswith(f"MiB free); make room; continue with resume={folder.path}")
    assert not list(folder.path.rglob("*.partial"))
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert_same_end(folder, whole)


def test_an_exception_in_validation_is_told_and_the_run_goes_on_exactly(
    tmp_path, whole, in_validation, monkeypatch, capfd
):
    folder = begin(tmp_path / "run")

    def fail():
        raise RuntimeError("it broke")

    in_validation(fail)
    assert carry_out(folder) == 1
    errors = capfd.readouterr().err
    assert "Traceback" in errors
    assert errors.endswith(f"sizemix: the run ended: RuntimeError: it broke; continue with resume={folder.path}\n")
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert_same_end(folder, whole)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, whole, before_batch, monkeypatch, capfd):
    folder = begin(tmp_path / "run")
    before_batch(send(signal.SIGTERM), number=13)
    assert carry_out(folder) == 143
    folder.last_checkpoint.write_bytes(folder.last_checkpoint.read_bytes()[:5000])
    (folder.checkpoints / ".last.ckpt-abcd1234.partial").write_bytes(b"what a killed write leaves")
    monkeypatch.undo()
    assert carry_out(folder) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert "last.ckpt is damaged (BadZipFile: File is not a zip file): it is now damaged.ckpt" in told
    assert f"Continuing after step {_EPOCH_STEPS}." in told
    assert_same_end(folder, whole)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "best.ckpt",
        "damaged.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]


@pytest.mark.parametrize(
    ("option", "stop"),
    [
        ("training.early_stopping_patience=1", "early"),
        ("trainer.max_time=00:00:00:01", "time"),
    ],
    ids=["early stopping", "time limit"],
)
def test_a_run_that_stopped_early_and_was_killed_in_its_evaluation_does_not_train_on(
    tmp_path, monkeypatch, capfd, option, stop
):
    folder = begin(tmp_path / "run", option, "trainer.max_epochs=200", "recipe.optimizer.lr=0.0")
    monkeypatch.setattr(run, "evaluate_run", lambda *_, **__: send(signal.SIGTERM)())
    assert carry_out(folder) == 143
    stopped = saved(folder)
    assert 0 < stopped["global_step"] < 200 * _EPOCH_STEPS
    rows = rows_of(folder)
    monkeypatch.undo()
    assert carry_out(folder) == 0
    assert saved(folder)["global_step"] == stopped["global_step"]
    assert rows_of(folder) == rows
    assert f"Stopped early, after step {stopped['global_step']} of" in capfd.readouterr().out


def test_wandb_continues_its_run(tmp_path, before_batch, monkeypatch):
    folder = begin(tmp_path / "run", "logger=wandb", "logger.mode=offline", "trainer.max_epochs=1")
    before_batch(send(signal.SIGTERM), number=4)
    assert carry_out(folder) == 143
    wandb.finish()  # as the end of the process does
    monkeypatch.undo()
    assert carry_out(folder) == 0
    runs = [path.name for path in (folder.path / "wandb").glob("offline-run-*")]
    assert {name.rpartition("-")[2] for name in runs} == {folder.config().run_id}
