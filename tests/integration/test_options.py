"""Options that change how a run is carried out, each in a real run of one epoch."""

import csv
import json
import tempfile

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.assembly import assemble
from sizemix.training.run import carry_out

_TINY = (
    "model.name=resnet8_cifar",
    "data.train_images=100",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "recipe.base_batch_size=20",
    "evaluation.eval_sizes=[8,12]",
    "evaluation.calibration_images=40",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
)


@pytest.fixture
def carried_out(compose, tmp_path):
    def start(*overrides):
        folder = RunFolder.create(tempfile.mkdtemp(dir=tmp_path), compose(*_TINY, *overrides))
        carry_out(folder)
        return folder

    return start


def test_the_run_ends_with_a_summary(carried_out):
    together = ("trainer.accumulate_grad_batches=2", "recipe.label_smoothing=0.1", "model.drop_path_rate=0.2")
    summary = json.loads(carried_out(*together, "sizes.budget=B+").summary_file.read_text())
    assert [point["image_size"] for point in summary["curve"]] == [8, 12]
    assert all(0 <= point["top1_recalibrated"] <= 1 for point in summary["curve"])
    assert summary["plan"]["images_seen"] == pytest.approx(100, abs=20)


@pytest.fixture
def precisions():
    """Types that convolutions give, with and without gradients."""
    seen = set()

    def note(module, _, output):
        if isinstance(module, torch.nn.Conv2d) and not output.is_meta:
            seen.add((torch.is_grad_enabled(), output.dtype))

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    yield seen
    handle.remove()


def test_mixed_precision_trains_and_evaluates_in_bfloat16(carried_out, precisions):
    folder = carried_out("trainer.precision=bf16-mixed")
    assert precisions == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert json.loads(folder.summary_file.read_text())["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    ("recipe", "settings", "lrs"),
    [
        ("adamw", {"betas": (0.9, 0.999), "weight_decay": 0.05}, [0.00001, 0.00097, 0.00075, 0.000413, 0.000117]),
        ("mixmatch", {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0001}, [0.1, 0.1, 0.1, 0.01, 0.001]),
    ],
)
def test_a_recipe_brings_its_optimizer_and_the_course_of_the_learning_rate(carried_out, recipe, settings, lrs):
    folder = carried_out(f"recipe={recipe}", "recipe.base_batch_size=20")
    (state,) = torch.load(folder.last_checkpoint, weights_only=True)["optimizer_states"]
    used = [{name: group[name] for name in settings} for group in state["param_groups"]]
    assert used == [settings | {"weight_decay": 0}, settings], "norms and biases are not decayed"
    with folder.metrics_csv.open(newline="") as file:
        seen = [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]]
    assert seen == pytest.approx(lrs, rel=1e-2)


def test_recalibration_is_shown_augmented_images_where_that_is_wanted(carried_out):
    as_test, as_train = (
        json.loads(carried_out(f"evaluation.calibration_transform={how}").summary_file.read_text())["curve"]
        for how in ("test", "train")
    )
    for one, other in zip(as_test, as_train, strict=True):
        assert one["top1"] == other["top1"]
        assert one["top1_recalibrated"] != other["top1_recalibrated"]


def test_a_model_without_batch_norm_has_one_column(carried_out, capsys):
    folder = carried_out("model=timm", "model.name=test_convnext", "sizes.image_sizes=[32,64]", "sizes.base_size=32",
                         "evaluation.eval_sizes=[32]", "recipe=adamw", "recipe.base_batch_size=20")  # fmt: skip
    assert "nothing to recalibrate" in capsys.readouterr().out
    assert json.loads(folder.summary_file.read_text())["curve"][0]["top1_recalibrated"] is None


def test_tensorboard_gets_training_and_curve_besides_the_csv(carried_out):
    folder = carried_out("logger=tensorboard")
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    curve = json.loads(folder.summary_file.read_text())["curve"]
    assert len(events.Scalars("train/loss")) == 5
    assert events.Scalars("test/top1@8")[0].value == pytest.approx(curve[0]["top1"])
    assert events.Scalars("test/top1_recalibrated@12")[0].value == pytest.approx(curve[1]["top1_recalibrated"])
    assert folder.metrics_csv.exists()


def test_wandb_works_offline_and_its_run_is_named_by_the_run_id(carried_out):
    folder = carried_out("logger=wandb", "logger.mode=offline")
    (run,) = (folder.path / "wandb").glob("offline-run-*")
    assert run.name.endswith(folder.config().run_id)


def test_a_run_killed_while_it_is_evaluated_is_evaluated_on_resume(compose, tmp_path, monkeypatch):
    summaries = []
    for name, killed in (("whole", False), ("killed", True)):
        folder = RunFolder.create(tmp_path / name, compose(*_TINY))
        if killed:
            with monkeypatch.context() as patch:
                patch.setattr(run, "evaluate_run", _interrupted)
                with pytest.raises(KeyboardInterrupt):
                    carry_out(folder)
            assert not folder.finished
        carry_out(folder)
        summaries.append(json.loads(folder.summary_file.read_text()))
    for part in ("curve", "validation", "plan"):
        assert summaries[0][part] == summaries[1][part]


def _interrupted(*arguments, **options):
    raise KeyboardInterrupt


def test_clipping_bounds_what_the_optimizer_gets(compose, tmp_path):
    plain_sgd = ("recipe.optimizer.opt=momentum", "recipe.optimizer.momentum=0", "recipe.optimizer.weight_decay=0")
    folder = RunFolder.create(tmp_path / "run", compose(*_TINY, *plain_sgd, "trainer.gradient_clip_val=0.01"))
    assembled = assemble(folder.config(), folder)

    def weights():
        return torch.cat([parameter.detach().reshape(-1) for parameter in assembled.model.net.parameters()])

    before = weights()
    run.fit(assembled, folder)
    moved = (weights() - before).norm().item()
    assert 0 < moved <= assembled.scheduler.planned.num_steps * 0.2 * 0.01, "steps of at most lr x clip each"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_compiling_makes_one_graph_a_size_and_trains(carried_out):
    import torch._dynamo

    torch._dynamo.reset()
    # Its batch norms are timm's fused ones, whose cumulative average must not be compiled batch by batch.
    folder = carried_out(
        *("model=timm", "model.name=test_efficientnet", "model.compile=true", "recipe.base_batch_size=5"),
        *("sizes.image_sizes=[32,64]", "sizes.base_size=32", "evaluation.eval_sizes=[32,48]"),
        "evaluation.calibration_images=100",
    )
    assert folder.finished
    counters = torch._dynamo.utils.counters
    assert counters["frames"]["ok"] == counters["frames"]["total"]
    assert 3 <= counters["stats"]["unique_graphs"] <= 4, "both sizes in training, and validation's one or two batches"
    state = torch.load(folder.last_checkpoint, weights_only=True)["state_dict"]
    assert not any("_orig_mod" in name for name in state)
