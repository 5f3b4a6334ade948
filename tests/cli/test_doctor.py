"""The report as a user gets it, and the exit code."""

import re
import subprocess
import sys

import pytest

from sizemix.cli import doctor
from sizemix.diagnosis import images
from sizemix.models import memory

_QUICK = (
    "model.name=resnet8_cifar",
    "data.train_images=100",
    "sizes.image_sizes=[8,12]",
    "sizes.shares=[0.5,0.5]",
    "sizes.base_size=12",
    "evaluation.eval_sizes=[8,12]",
    "trainer.accelerator=cpu",
)


@pytest.fixture
def report(monkeypatch, tmp_path, capsys):
    """The exit code and what is printed, spaces and line breaks as one space; nothing may be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(images, "_SECONDS_A_SIZE", 0.05)

    def examined(*arguments):
        code = doctor.main(arguments)
        printed = capsys.readouterr()
        assert all(len(line) <= 80 for line in printed.out.splitlines())
        assert "Traceback" not in printed.out + printed.err
        assert list(tmp_path.iterdir()) == []
        return code, " ".join(printed.out.split())

    return examined


def test_a_run_that_can_begin_is_told_so_and_nothing_is_written(report):
    code, shown = report(*_QUICK, "hydra.run.dir=runs/here/${now:%H}")
    assert code == 0
    assert "free for runs/here/; a run's checkpoints" in shown
    for part in (
        "torchvision its operators work with torch",
        "trains on 1 x cpu, 32-true ok",
        "images Fashion-MNIST (12,000-image subset), 100 ",
        "200 for validation",
        "classes 10, of 10 training images each ok",
        "sizes takes all: 8, 12 px ok",
        "plan 8 epochs, ",
        "recipe SGD, learning rate 0.",
        "step the largest, ",
    ):
        assert part in shown, part
    assert re.search(r"loader images/s: [\d,.]+ at 8 px, [\d,.]+ at 12 px", shown)
    assert re.search(r"speed images/s: [\d,.]+ at 8 px, [\d,.]+ at 12 px; forward", shown)
    assert shown.endswith(": the run can begin.")


def test_several_things_that_are_wrong_are_told_at_once_and_the_rest_is_looked_at(report):
    sizes = ("sizes.image_sizes=[96,100]", "sizes.base_size=96", "evaluation.eval_sizes=[96]", "sizes.multiple_of=2")
    code, shown = report(
        *_QUICK, "data=folder", "~data.train_images", "data.root=nowhere", "model=timm", "model.name=test_vit", *sizes
    )
    assert code == 2
    assert "images cannot be used, see below PROBLEM" in shown
    assert "images: data.root: expected a folder" in shown
    assert "sizes takes 96 px, not 100 px PROBLEM" in shown
    assert (
        "set sizes.image_sizes, evaluation.eval_sizes and data.base_size to the nearest that it takes: 96 for 100"
        in shown
    )
    assert re.search(r"speed images/s: [\d,.]+ at 96 px", shown)
    assert shown.endswith("2 problems (images, sizes): the run would fail.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("recipe.optimizer.opt=sgdd",), "expected a name of timm's optimizers"),
        (("+recipe.optimizer.lr_typo=3",), "does not take"),
        (
            ("recipe.loss_scale=linear", "recipe.lr_scaling=linear", "sizes.budget=B+"),
            "loss_scale or lr_scaling, got both",
        ),
        (("sizes.budget=memory", "match=compute"), "match: expected images"),
    ],
)
def test_what_training_would_refuse_is_found_before(report, options, said):
    code, shown = report(*_QUICK, *options)
    assert (code, said in shown) == (2, True), shown


def test_without_a_network_the_images_are_still_looked_at(report):
    code, shown = report(*_QUICK, "model=timm", "model.name=rsnet50")
    assert code == 2
    assert "did you mean resnet50" in shown
    assert re.search(r"loader images/s: [\d,.]+ at 8 px", shown)


def test_a_configuration_that_cannot_be_composed_leaves_the_machine_to_look_at(report):
    code, shown = report("model=foo")
    assert code == 2
    assert "options: model: expected one of" in shown
    assert "CPU" in shown
    assert "memory" in shown


def test_too_little_memory_is_found_without_running_out_of_it(report, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    code, shown = report(*_QUICK)
    assert code == 2
    assert "needs more memory than the cpu has" in shown
    assert "lower recipe.base_batch_size" in shown
    assert "forward and backward" not in shown


def test_libraries_that_cannot_be_imported_are_told(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "sizemix.diagnosis.examination", None)
    monkeypatch.delattr("sizemix.diagnosis.examination", raising=False)
    code, shown = report()
    assert code == 2
    assert "imports: expected the check to end, got" in shown
    assert "Versions python" in shown


@pytest.mark.parametrize(
    ("arguments", "shown"), [(["doctor", "--help"], "usage: sizemix doctor"), (["--help"], "doctor  ")]
)
def test_help_is_given_without_looking_at_anything(arguments, shown):
    done = subprocess.run([sys.executable, "-m", "sizemix.cli.main", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout
