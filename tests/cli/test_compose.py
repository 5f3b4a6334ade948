import pytest

from sizemix.cli.compose import compose
from sizemix.errors import UserError


def test_the_configuration_is_that_of_a_run_resolved_and_without_hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose(["data=folder", "data.root=photos", "model=resnet18", "sizes=fixed"])
    assert config.name == "resnet18-fixed"
    assert config.evaluation.val_size == 224
    assert config.data.root == str(tmp_path / "photos")
    assert "hydra" not in config
    assert list(tmp_path.iterdir()) == []


def test_trained_weights_get_the_recipe_that_training_would_take(capsys):
    config = compose(["model=resnet18", "model.pretrained=true"])
    assert config.recipe.optimizer.opt == "adamw"
    assert config.name == "resnet18-mixed"
    assert "recipe=finetune" in capsys.readouterr().out


def test_a_network_takes_any_argument_of_its_own():
    assert compose(["model.kwargs.global_pool=max", "model.kwargs.drop_rate=0.1"]).model.kwargs == {
        "global_pool": "max",
        "drop_rate": 0.1,
    }


def test_a_network_without_a_name_gives_the_run_its_files_name(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "small.yaml").write_text("_target_: my_model.small\n")
    assert compose([f"--config-dir={tmp_path}", "model=small"]).name == "small-mixed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=foo"], "model: expected one of .*resnet50.*, got foo"),
        (["nonsense=3"], "unknown option nonsense"),
        (["x"], "expected option=value, got x"),
        (["--epochs=3"], "expected option=value, got --epochs=3; options have no dashes, as in epochs=VALUE"),
        (["-m", "seed=0,1"], "expected the options of one run, got -m; only sizemix train starts sweeps"),
        (["seed=0,1"], "got several values in seed=0,1; give one of them"),
        (["resume=outputs/run"], "got resume=outputs/run; only sizemix train resumes"),
        (["data=folder"], "expected a value for data.root"),
        (["seed=-1"], "seed: expected a whole number"),
        (["evaluation.val_size=${nowhere}"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        compose(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "transform"),
    [
        ([], "test"),
        (["data=cifar10", "data.root=."], "train"),
        (["data=cifar10", "data.root=.", "evaluation.calibration_transform=test"], "test"),
    ],
)
def test_how_images_are_shown_for_recalibration_belongs_to_the_data_unless_evaluation_says_otherwise(
    options, transform
):
    assert compose(options).evaluation.calibration_transform == transform
