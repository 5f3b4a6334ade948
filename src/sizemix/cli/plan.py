"""`sizemix plan`: what a run would spend at every size, before anything trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from sizemix.cli.compose import compose
from sizemix.cli.ending import exit_code_of
from sizemix.errors import UserError
from sizemix.report.plan import draw_plan, plan_table, write_sizes_csv
from sizemix.training.forecast import Forecast, forecast
from sizemix.training.plan_inputs import Images, count_images

_HELP = """usage: sizemix plan [OPTION=VALUE ...]

Takes the options of sizemix train, and:
  num_images=N       plan for so many training images instead of opening the data
  num_classes=N      outputs of the network with num_images; 1000 if left out
  probe=true         measure a step of each size on this machine: peak memory, and the time of the whole run
  out=FOLDER         where sizes.csv (the table) and plan.png go; plan/ if left out

  sizemix plan sizes=mixed_fast model=resnet50 data=folder data.root=photos/
  sizemix plan data=imagenet num_images=1281167 model=resnet50 recipe.base_batch_size=256 trainer.max_epochs=90
"""
_OWN = ("num_images", "num_classes", "probe", "out")
_CLASSES = 1000


def main(arguments: Sequence[str]) -> int:
    """Plans what the arguments describe; returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    return exit_code_of(lambda: _plan(arguments))


def _plan(arguments: Sequence[str]) -> None:
    own = {name: value for name, _, value in (argument.partition("=") for argument in arguments) if name in _OWN}
    overrides = [argument for argument in arguments if argument.partition("=")[0] not in own]
    probe = own.get("probe", "false").lower()
    if probe not in ("true", "false"):
        raise UserError(f"probe: expected true or false, got {own['probe']}.")
    if "num_classes" in own and "num_images" not in own:
        raise UserError("num_classes: expected num_images beside it, as the data say both otherwise; add or drop one.")
    if "num_images" in own:
        images = Images(_number(own, "num_images"), _number(own, "num_classes") if "num_classes" in own else _CLASSES)
        config = compose(overrides, placeholders={"data.root": "."})
        _check_number_stands(config)
    else:
        config = compose(overrides)
        images = count_images(config)
    _show(config, forecast(config, images, probe=probe == "true"), Path(own.get("out", "plan")))


def _check_number_stands(config: DictConfig) -> None:
    """Refuses options that only the data could tell the effect of."""
    if config.training.imbalance == "oversample":
        raise UserError(
            "num_images: expected no training.imbalance=oversample beside it, as only the data say how long its passes "
            "are; leave out one of them."
        )
    if config.data.get("train_images") is not None:
        raise UserError(
            f"num_images: expected no data.train_images beside it, got {config.data.train_images}; leave out one of "
            "them, as both say how many images a pass has."
        )


def _number(own: Mapping[str, str], name: str) -> int:
    if not own[name].isdecimal() or int(own[name]) < 1:
        raise UserError(f"{name}: expected a whole number of at least 1, got {own[name]}.")
    return int(own[name])


def _show(config: DictConfig, spent: Forecast, folder: Path) -> None:
    plan, measured = spent.plan, spent.measured
    Console(highlight=False, markup=False).print(plan_table(plan, costs_are_flops=True, measured=measured))
    try:
        write_sizes_csv(plan, folder / "sizes.csv", costs_are_flops=True, measured=measured)
        draw_plan(plan, folder / "plan.png", title=config.name)
    except OSError as error:
        raise UserError(f"out: expected a folder that can be written, got {folder} ({error.strerror}).") from error
    print(f"Written: {folder}/sizes.csv, plan.png")
