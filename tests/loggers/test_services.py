"""What stands in the files of W&B and TensorBoard behind a run."""

import json
import os
import re
import struct
import time
from pathlib import Path

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from sizemix.checkpointing.signals import Interrupted, signal
from sizemix.cli import evaluate
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.run import carry_out

_TINY = (
    "data.train_images=100",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=20",
    "evaluation.eval_sizes=[8,12]",
    "evaluation.calibration_images=40",
    "evaluation.measure=gflops",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
)
_OFFLINE = ("logger=wandb", "logger.mode=offline")
_HEADER, _BLOCK = 7, 32768  # bytes, of the log's format (that of LevelDB)


@pytest.fixture
def begin(compose, tmp_path):
    return lambda *options: RunFolder.create(tmp_path / "run", compose(*_TINY, *options))


def records_now(folder):
    """All that an offline run has written, in order."""
    (file,) = (folder.path / "wandb").glob("offline-run-*/*.wandb")
    data, at, part = file.read_bytes(), _HEADER, b""
    while at + _HEADER <= len(data):
        left = -at % _BLOCK
        if 0 < left < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + _HEADER])
        if at + _HEADER + length > len(data):  # being written
            return
        part += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(part)
            part = b""
            yield record


def records(folder):
    """The same once the last one is there: W&B's process writes a little behind finish()."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = list(records_now(folder))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError("the run was never finished")


def history(found):
    """Rows of figures, in order."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]


@pytest.fixture
def wandb_run(begin, monkeypatch):
    monkeypatch.setenv("SECRET_OF_MINE", "do-not-tell")
    folder = begin(*_OFFLINE, "logger.additional.group=sweep", f"+notes={Path.home()}/photos")
    carry_out(folder)
    return folder


def test_wandb_has_group_job_type_curve_pictures_and_configuration_and_is_finished(wandb_run):
    found = records(wandb_run)
    (begun,) = (record.run for record in found if record.HasField("run"))
    assert (begun.run_group, begun.job_type, begun.display_name) == ("sweep", "test", "test-seed0")
    axes = {record.metric.name: record.metric.step_metric for record in found if record.HasField("metric")}
    assert axes["curve/top1"] == axes["curve/top1_training_statistics"] == "curve/image_size"
    rows = history(found)
    curve = json.loads(wandb_run.summary_file.read_text())["curve"]
    assert [(row["curve/image_size"], row["curve/top1"]) for row in rows if "curve/top1" in row] == [
        (point["image_size"], pytest.approx(point["top1_recalibrated"])) for point in curve
    ]
    assert {row["images_seen"] for row in rows if "val/top1@12" in row} == {100}
    media = {re.sub(r"_\d+_\w+", "", str(file)) for file in media_of(wandb_run)}
    assert media == {"images/plan/picture.png", "images/evaluation/picture.png", "table/evaluation/table.table.json"}
    config = {item.key: json.loads(item.value_json) for record in found for item in record.config.update}
    assert (config["sizes"]["image_sizes"], config["notes"]) == ([8, 12], "photos")
    assert {"sizemix", "torch", "timm", "pytorch-lightning", "git_commit"} <= set(config["versions"])
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
    assert wandb.run is None
    told = told_by(wandb_run)
    secrets = (str(Path.home()), "do-not-tell", "SECRET_OF_MINE", str(wandb_run.path), os.getcwd())
    assert [secret for secret in secrets if secret.encode() in told] == []


def media_of(folder):
    (media,) = (folder.path / "wandb").glob("offline-run-*/files/media")
    return [file.relative_to(media) for file in media.rglob("*.*")]


def told_by(folder):
    """All bytes that `wandb sync` would send."""
    told = []
    for record in records(folder):
        for content in record.artifact.manifest.contents:
            content.ClearField("local_path")  # where sync finds the file
        told.append(record.SerializeToString())
    (files,) = (folder.path / "wandb").glob("offline-run-*/files")
    return b"".join([*told, *(file.read_bytes() for file in files.rglob("*") if file.is_file())])


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("it broke"), 1), (Interrupted(signal.SIGTERM, on_all_ranks=True), 143)]
)
def test_wandb_is_finished_where_the_run_fails_or_is_interrupted(begin, monkeypatch, error, code):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(run, "fit", fail)
    folder = begin(*_OFFLINE)
    with pytest.raises(type(error)):
        carry_out(folder)
    assert [record.exit.exit_code for record in records(folder) if record.HasField("exit")] == [code]
    assert wandb.run is None


def test_a_run_outlives_wandb(begin, monkeypatch, capsys):
    def lose(*arguments, **options):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr("wandb.sdk.wandb_run.Run.log", lose)
    folder = begin(*_OFFLINE)
    carry_out(folder)
    assert folder.finished
    assert "WandbLogger failed (ConnectionResetError: Connection lost); the run goes on" in capsys.readouterr().err


def test_tensorboard_has_the_same_curve_and_pictures(begin):
    folder = begin("logger=tensorboard")
    carry_out(folder)
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    curve = json.loads(folder.summary_file.read_text())["curve"]
    assert [(event.step, event.value) for event in events.Scalars("curve/top1")] == [
        (point["image_size"], pytest.approx(point["top1_recalibrated"])) for point in curve
    ]
    assert events.Scalars("curve/top1_training_statistics")[0].value == pytest.approx(curve[0]["top1"])
    assert {"plan/picture", "evaluation/picture"} <= set(events.Tags()["images"])
    (picture,) = events.Images("plan/picture")
    assert picture.width > picture.height > 100
    assert events.Scalars("images_seen")[-1].value == 100


def test_an_evaluation_is_a_run_of_its_own_in_wandb(small_run, tmp_path):
    """Its training's own run, which may be on the service, is not touched."""
    options = ("evaluation.eval_sizes=[12]", "evaluation.measure=gflops", *_OFFLINE, "logger.additional.project=sizes")
    assert evaluate.main([str(small_run.path), "--out", str(tmp_path), *options]) == 0
    found = records(RunFolder(tmp_path))
    begun = next(record.run for record in found if record.HasField("run"))
    assert (begun.project, begun.job_type, begun.display_name) == ("sizes", "evaluate", "tiny-seed0")
    assert begun.run_id != small_run.config().run_id
    shown = [row["curve/image_size"] for row in history(found) if "curve/image_size" in row]
    assert shown == [12]
