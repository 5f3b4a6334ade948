"""What a user's mistakes look like: one sentence on stderr, no traceback, a non-zero exit."""

import re
import shlex
import subprocess
import sys
import time

import pytest
import torch
import yaml

import sizemix
from sizemix.cli import train
from sizemix.cli.main import main
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder
from sizemix.training import run
from sizemix.training.assembly import assemble

has_gpu = torch.cuda.is_available()

_QUICK = ("data.train_images=100", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
_TINY = ("sizes=fixed", "sizes.base_size=8", "evaluation.eval_sizes=[8]", "evaluation.calibration_images=50")


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command, with the run in this process instead of one of its own, which takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(train, "_become", lambda folder: run.main([str(folder.path)]))
    return lambda *arguments: train.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=foo"], "model: expected one of .*resnet50.*, got foo; any other timm model is model=timm model.name="),
        (["sizes=bar"], "sizes: expected one of alternating, finetuned, fixed, mixed, .*, got bar"),
        (["sizes.foo=1"], "unknown option sizes.foo: expected one of those of sizes: .*budget"),
        (["nonsense=3"], "unknown option nonsense: expected one of those there are: .*seed"),
        (["x"], "expected option=value, got x"),
        (["size=fixed"], "unknown option size: .*did you mean sizes"),
        (["epochs=3"], r"unknown option epochs: .*did you mean trainer\.max_epochs"),
        (["learning_rate=3"], r"unknown option learning_rate: .*did you mean recipe\.optimizer\.lr\?"),
        (["data.root=x"], r"unknown option data\.root: .*; photos of your own are data=folder data\.root=FOLDER"),
        (["data=folder", "data.root=Bücher"], "data.root: expected a folder .*, got .*Bücher, which is no folder"),
        (["data=pack", "data.root=nowhere"], r"data\.root: expected a pack, .*; look for its name"),
        (["name=a(b"], r"expected option=value, got name=a\(b; a value with signs like .* is written \"name='a\(b'\""),
        (["--epochs", "3"], "expected option=value, got --epochs; options have no dashes, as in epochs=VALUE"),
        (["sizes=fixed,mixed"], "several values are a sweep; add -m"),
        (["model=timm"], "expected a value for model.name, got none; set it"),
        (["trainer.max_epochs=abc"], "trainer.max_epochs: expected a whole number of at least 1, got 'abc'"),
        (["trainer.max_epochs=0"], "trainer.max_epochs: expected a whole number of at least 1, got 0"),
        (["trainer.precision=8"], "trainer.precision: expected one of 32-true, bf16-mixed, 16-mixed, got 8"),
        (["+trainer.max_steps=3"], "trainer.max_steps would cut the size plan short"),
        (["seed=-1"], "seed: expected a whole number from 0 to 4294967295, got -1"),
        (["evaluation.eval_sizes=16"], "evaluation.eval_sizes: expected a list"),
        (["evaluation.eval_sizes=[16,20,16]"], "evaluation.eval_sizes: expected a list .* there once, got"),
        (["sizes.image_sizes=28"], "sizes.image_sizes: expected a list"),
        (
            ["sizes=fixed", "sizes.image_sizes=[20,28]"],
            "unknown option sizes.image_sizes: .*; sizes=mixed takes lists of sizes and shares",
        ),
        (["recipe.gradient_smoothing=maybe"], "expected one of true, false, auto, got 'maybe'"),
        (["sizes.budget=B"], "sizes.budget: expected one of constant, B\\+, D\\+, B\\+D\\+, memory, got 'B'"),
        (["resume=nowhere"], "expected a run folder with a config.yaml, got nowhere"),
        (["sizes.image_sizes=[20,30]"], "multiples of 4 .*, got 30; use 28 or 32"),
        (["sizes.image_sizes=[28,20]"], "increasing"),
        (["sizes.image_sizes=[-4,20]"], "sizes.image_sizes: expected a list"),
        (["sizes.shares=[0.5,0.5]"], "one share for each of the 7 image sizes"),
        (["recipe.base_batch_size=500"], "more than the 100 training images"),
        (["sizes.budget=B+", "recipe.base_batch_size=1"], "a step at 40 px would hold under 1 image"),
        (["seed=5000000000"], "seed: expected a whole number from 0 to 4294967295, got 5000000000"),
        (["model.drop_path_rate=1.5"], "model.drop_path_rate: expected a number from 0 to 0.99"),
        (["augment.rand_augment=9"], "augment.rand_augment: expected several options as {num_ops: 2, .*, got 9"),
        (
            ["data=folder", "data.root=photos", "data.crop_scale=[0.5]"],
            r"data.crop_scale: expected .*\[LEAST,GREATEST\]",
        ),
        (["model=timm", "model.name=resnet50.foo"], "resnet50.foo cannot be built"),
        (["logger=wandb", "logger.mode=foo"], "logger.mode: expected one of online, offline, disabled, got 'foo'"),
        (["logger=wandb"], r"logger: W&B says: [^.]*; run `wandb login`, or set logger\.mode=offline"),
        (["trainer.devices=1000"], "trainer.devices: expected at most"),
        (["trainer.sync_batchnorm=true"], "trainer.sync_batchnorm: expected several GPUs, got 1 x"),
        (["trainer.sync_batchnorm=1.5"], "trainer.sync_batchnorm: expected one of true, false, got 1.5"),
        (
            ["model.compile=reduce-overhead", "sizes.budget=memory"],
            "model.compile: .*true or false.* got reduce-overhead",
        ),
        (["trainer.sync_batchnorm=true", "training.train_only=head"], "expected false with training.train_only=head"),
        (["trainer.strategy=fsdp"], "trainer.strategy: expected one of auto, ddp, .* whole network .*, got 'fsdp'"),
        (["trainer.num_nodes=2"], "trainer.num_nodes: expected 1, got 2; .* by torchrun or srun"),
        (["model=timm", "model.name=rsnet50"], "did you mean resnet50"),
        (
            ["evaluation.eval_sizes=[28,16000]"],
            "a batch of 250 images of 16000 px needs more memory .* lower evaluation.batch_size",
        ),
        (["evaluation.val_size=16000"], "a batch of 250 images of 16000 px needs more memory"),
        (["model=vit_tiny_patch16_224"], r"does not take images of \[20, 24, 28, 36, 40\] px"),
        (["recipe.optimizer.opt=sdg"], "got 'sdg'"),
        (["recipe.optimizer.lr=1e400"], "recipe.optimizer.lr: expected a number of at least 0, got inf"),
        (["recipe.optimizer.lr=nan"], "recipe.optimizer.lr: expected a number of at least 0, got nan"),
        (["recipe.optimizer.lr=-0.1"], "recipe.optimizer.lr: expected a number of at least 0, got -0.1"),
        (["recipe.optimizer.lr=abc"], "recipe.optimizer.lr: expected a number of at least 0, got 'abc'"),
        (["recipe=adamw", "+recipe.optimizer.betas=[0.9,nan]"], "recipe.optimizer.betas: expected a finite number"),
        (["augment.mixup=1e400"], "augment.mixup: expected a number of at least 0, got inf"),
        (["trainer.devices=1000", "trainer.accelerator=cpu"], "trainer.devices: expected at most"),
        pytest.param(["trainer=gpu"], "trainer: .*gpu", marks=pytest.mark.skipif(has_gpu, reason="there is a GPU")),
        (["+trainer.foo=3"], "trainer: expected options that pytorch_lightning.Trainer takes, got foo; leave it out"),
        (["+trainer.profilr=simple"], "got profilr; did you mean profiler?"),
        (["+trainer.benchmark=abc"], "trainer: Trainer says: .* expects a bool, but got str; change what this names"),
        (["trainer.accelerator=tpu"], "trainer.accelerator: expected one of auto, cpu, .*, got 'tpu'"),
        (["sizes=fixed", "recipe.lr_scaling=sqrt"], "recipe.lr_scaling: expected none with sizes.budget=constant"),
        (["data.train_images=7"], "expected a multiple of 10"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(command, capfd, arguments, message):
    assert command(*_QUICK, *arguments) != 0
    stderr = capfd.readouterr().err
    answers = [line for line in stderr.splitlines() if line.startswith("sizemix: ")]
    assert len(answers) == 1
    assert "Traceback" not in stderr
    assert re.search(message, answers[0]), answers[0]


def test_a_run_folder_holds_what_the_readme_says(command, tmp_path, capfd):
    small = ("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12", "evaluation.eval_sizes=[8,12]")
    assert command(*_QUICK, *small, "seed=3") == 0
    (folder,) = (tmp_path / "outputs").glob("*/*-resnet20_cifar-mixed")
    for name in (
        "plan.csv",
        "metrics.csv",
        "curve.csv",
        "per_class.csv",
        "summary.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["seed"] == 3
    assert config["evaluation"]["val_size"] == 12, "config.yaml is resolved"
    assert (folder / "curve.csv").read_text().startswith("image_size,num_images,top1,")
    printed = capfd.readouterr().out
    assert "8 px" in printed
    assert "Run folder" in printed

    assert command(f"resume={folder}") == 0
    assert "Finished already" in capfd.readouterr().out


def test_a_resumed_run_takes_no_other_configuration(command, tmp_path, capfd):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("data: {num_workers: 0}\n")
    assert command(f"resume={folder}", "model=resnet50") == 2
    assert "keeps its configuration: expected only data.num_workers" in capfd.readouterr().err


def test_a_run_that_is_to_be_longer_is_a_new_one_by_the_command_that_is_named(command, tmp_path, monkeypatch, capfd):
    options = (*_QUICK, *_TINY, "data.num_workers=0")
    assert command(*options, "hydra.run.dir=first run") == 0
    assert command("resume=first run", "trainer.max_epochs=2") == 2
    said = re.search(
        r"begins with the weights of this one by: sizemix train OPTIONS (.*) \(OPTIONS", capfd.readouterr().err
    )
    assert said[1] == "'model.checkpoint=first run' trainer.max_epochs=2"
    monkeypatch.setattr(train, "_become", lambda folder: 0)
    assert command(*options, *shlex.split(said[1]), "hydra.run.dir=second") == 0
    second = RunFolder(tmp_path / "second")
    begun = assemble(second.config(), second)
    assert begun.trainer.max_epochs == 2
    trained = torch.load(tmp_path / "first run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, trained[f"net.{name}"]) for name, value in begun.model.net.state_dict().items())


def test_weights_are_offered_only_where_a_new_run_can_begin_with_them(command, tmp_path, capfd):
    assert command(*_QUICK, *_TINY, "hydra.run.dir=run") == 0
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("pretrained: false", "pretrained: true"))
    assert command("resume=run", "seed=1") == 2
    assert "OPTIONS model.pretrained=false model.checkpoint=run seed=1 (" in capfd.readouterr().err
    assert command("resume=run", "model.name=resnet50") == 2
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    assert command("resume=run", "seed=1") == 2
    assert capfd.readouterr().err.count("; start a new run.\n") == 2


def test_a_resumed_run_checks_what_may_change(command, tmp_path, capfd):
    assert command(*_QUICK, "+data.colour=red") == 2
    (folder,) = (tmp_path / "outputs").glob("*/*")
    before = (folder / "config.yaml").read_bytes()
    assert command(f"resume={folder}", "data.num_workers=abc") == 2
    assert "data.num_workers: expected a whole number of at least 0 or auto, got 'abc'" in capfd.readouterr().err
    assert (folder / "config.yaml").read_bytes() == before


def test_an_option_that_is_refused_on_resume_is_not_kept(command, tmp_path, capfd):
    assert command(*_QUICK, "+data.colour=red", "hydra.run.dir=run") == 2
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    assert command("resume=run", "checkpoint.every_minutes=0") == 2
    assert "checkpoint.every_minutes: expected a number of at least 0.001 or null, got 0" in capfd.readouterr().err
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_what_ended_a_run_stands_in_its_folder_until_it_goes_on(command, tmp_path, capfd):
    assert command(*_QUICK, *_TINY, "+data.colour=red", "hydra.run.dir=run") == 2
    failure = tmp_path / "run" / "failure.txt"
    assert failure.read_text() in capfd.readouterr().err
    said = r'expected a finished run, got .*run, which ended with "data: expected options .* got colour.*"; finish it'
    with pytest.raises(UserError, match=said):
        sizemix.load(tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("  colour: red\n", ""))
    assert command("resume=run") == 0
    assert not failure.exists()


@pytest.mark.parametrize("open_option", [(), ("model.kwargs.planes=[4,4,4]",)], ids=["plain", "kwargs"])
def test_a_slurm_job_that_is_started_again_continues_its_run(tmp_path, monkeypatch, open_option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    carried_on = []
    monkeypatch.setattr(train, "_carry_on", lambda folder, lifeline: carried_on.append(folder.path.resolve()) or 0)
    for restarts in "01":
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
        assert train.main([*_QUICK, *open_option]) == 0
        time.sleep(1.1)  # folders are named by the second
    assert carried_on[0] == carried_on[1]


def test_a_sweep_goes_on_behind_a_bad_job_and_says_which_failed(command, tmp_path, capfd):
    small = ("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12", "evaluation.eval_sizes=[8]")
    assert command("-m", *_QUICK, *small, "seed=-1,0", "evaluation.calibration_images=50") == 2
    printed = capfd.readouterr()
    assert "1 of the jobs failed (0-resnet20_cifar-mixed-seed-1: seed: expected a whole number" in printed.err
    assert "Job 1: " in printed.out
    (folder,) = (tmp_path / "multirun").glob("*/*/1-*")
    assert (folder / "summary.json").exists()


def test_help_shows_every_group_with_its_choices_and_examples():
    shown = subprocess.run(
        [sys.executable, "-m", "sizemix.cli.main", "train", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for part in (
        "sizes: alternating, finetuned, fixed, mixed",
        "model: ",
        "resnet50",
        "recipe: adamw, finetune, mixmatch, scratch",
        "Examples:",
        "-m ",
    ):
        assert part in shown


@pytest.mark.parametrize("place", ["hydra.run.dir=/proc/x", "hydra.run.dir=file/run"])
def test_a_folder_that_cannot_be_written_is_named(command, tmp_path, capfd, place):
    (tmp_path / "file").touch()
    assert command(*_QUICK, place) == 2
    (sentence,) = capfd.readouterr().err.splitlines()
    assert sentence.startswith("sizemix: hydra.run.dir: expected a folder that can be written, got ")


def test_a_sweep_that_cannot_be_written_is_named(command, capfd):
    with pytest.raises(SystemExit) as ended:
        command("-m", *_QUICK, "seed=0,1", "hydra.sweep.dir=/proc/x")
    assert ended.value.code == 2
    assert "sizemix: hydra.sweep.dir: expected a folder that can be written" in capfd.readouterr().err


def test_a_refused_command_leaves_no_folder_behind_and_takes_none_away(command, tmp_path):
    refused = (*_QUICK, "seed=-1")
    assert command(*refused) == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "outputs").mkdir()
    (tmp_path / "mine").mkdir()
    assert command(*refused) == 2
    assert command(*refused, "hydra.run.dir=mine") == 2
    assert command(*refused, "hydra.run.dir=mine/run/deep") == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "outputs"]


def test_a_run_is_named_by_its_network(command, tmp_path):
    assert command(*_QUICK, "model=timm", "model.name=test_resnet", "+data.colour=red") == 2
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert folder.name.endswith("-test_resnet-mixed")


def test_a_network_takes_any_argument_of_its_own(command, tmp_path, capfd):
    assert command(*_QUICK, "model=timm", "model.name=test_resnet", "model.kwargs.depth=3") == 2
    assert "test_resnet cannot be built with {'depth': 3}" in capfd.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--help"], 0), (["dance"], 2)])
def test_the_command_itself_explains_what_it_knows(arguments, code):
    done = subprocess.run([sys.executable, "-m", "sizemix.cli.main", *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert "train" in done.stdout + done.stderr


def test_the_command_names_its_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sizemix", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"sizemix {sizemix.__version__}\n"
