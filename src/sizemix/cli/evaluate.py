"""`sizemix evaluate`: accuracy and cost at every size, of a run or of any timm weights, and which size to deploy."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from sizemix.cli.compose import compose
from sizemix.cli.defaults import make_paths_absolute
from sizemix.cli.ending import exit_code_of
from sizemix.cli.messages import one_sentence
from sizemix.cli.options import check_options
from sizemix.cli.parser import Parser
from sizemix.errors import UserError
from sizemix.runs.folder import RunFolder

if TYPE_CHECKING:
    from sizemix.evaluation.advice import Wish

_DESCRIPTION = """Measures accuracy and cost at every size, and says which size to deploy.

  sizemix evaluate RUN
  sizemix evaluate RUN 'evaluation.eval_sizes=[96,144]' --max-latency-ms 5
  sizemix evaluate RUN data.root=other_photos/
  sizemix evaluate RUN logger=wandb
  sizemix evaluate model=resnet50 model.checkpoint=FILE data=folder data.root=photos/

Sizes are chosen on validation images and judged on test images. A network that no run of sizemix has trained is
recalibrated with the training images of data.root, and its classes are the folders of these names.
"""
_CHANGEABLE = ("evaluation.", "data.", "data=", "trainer.")


def main(arguments: Sequence[str]) -> int:
    """Evaluates what the arguments describe; returns the exit code."""
    options, others = _parser().parse_known_args(list(arguments))
    return exit_code_of(lambda: _evaluate(options, others))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sizemix evaluate",
        usage="sizemix evaluate [RUN] [OPTION=VALUE ...] [--max-latency-ms MS] [--max-gflops G] [--min-top1 PART] ...",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--max-latency-ms", type=float, help="advise a size that takes at most so long for one image")
    parser.add_argument("--max-gflops", type=float, help="... at most so many GFLOPs (a multiply-add is two)")
    parser.add_argument("--min-top1", type=float, help="... the cheapest that is at least so accurate, from 0 to 1")
    parser.add_argument("--robustness", action="store_true", help="also objects larger and smaller, and moved a pixel")
    parser.add_argument("--out", type=Path, help="folder for the results; RUN/evaluation or evaluation if left out")
    parser.add_argument("--trust-target", action="store_true", help="build a network of your own, as the run names it")
    return parser


def _evaluate(options: argparse.Namespace, others: Sequence[str]) -> None:
    overrides = [argument for argument in others if "=" in argument and not argument.startswith("-")]
    runs = [argument for argument in others if argument not in overrides]
    if len(runs) > 1 or any(run.startswith("-") for run in runs):
        raise UserError(f"expected a run's folder and OPTION=VALUE, got {' '.join(runs)}; see sizemix evaluate --help.")
    run = RunFolder.open(runs[0]) if runs else None
    told, overrides = _parted(overrides, ("logger=", "logger."))
    config = _of_run(run, overrides) if run else compose(overrides)
    config.logger = _loggers(told, name=config.name, seed=config.seed)
    if not any(override.startswith("evaluation.measure=") for override in overrides):
        config.evaluation.measure = "throughput"
    if options.max_latency_ms is not None and config.evaluation.measure == "gflops":
        raise UserError(
            "--max-latency-ms: expected measured time, got evaluation.measure=gflops; leave one of them out."
        )
    config.trainer.devices, config.trainer.num_nodes = 1, 1
    out = options.out or ((run.path if run else Path()) / "evaluation")
    if (out / "config.yaml").exists():
        raise UserError(f"--out: expected a folder for results, got the run {out}, whose own would be lost.")
    wish = _wish(options)
    from sizemix.inference.reevaluation import Request, carry_out  # seconds of imports

    carry_out(
        Request(
            config,
            run=run,
            own_images=not any(_names_other_images(override) for override in overrides),
            out=out,
            wish=wish,
            robustness=options.robustness,
            trust_target=options.trust_target,
        )
    )


def _parted(overrides: Sequence[str], beginnings: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Those that begin so, and the others."""
    found = [override for override in overrides if override.startswith(beginnings)]
    return found, [override for override in overrides if override not in found]


def _loggers(overrides: Sequence[str], *, name: str, seed: int) -> DictConfig:
    """The loggers of this evaluation alone: a run's own hold its training, which stays as it is."""
    config = compose([*overrides, f"name={json.dumps(name)}", f"seed={seed}"]).logger
    assert isinstance(config, DictConfig)
    if "job_type" in (config.additional or {}) and not _parted(overrides, ("logger.additional.job_type=",))[0]:
        config.additional.job_type = "evaluate"
    return config


def _names_other_images(override: str) -> bool:
    return override.startswith("data") and not override.startswith(("data.num_workers=", "data.name="))


def _wish(options: argparse.Namespace) -> "Wish":
    for name in ("max_latency_ms", "max_gflops", "min_top1"):
        value, most = getattr(options, name), 1.0 if name == "min_top1" else float("inf")
        if value is not None and not 0 < value <= most:
            limits = "above 0" if most > 1 else "above 0 and at most 1"
            raise UserError(f"--{name.replace('_', '-')}: expected a number {limits}, got {value:g}.")
    from sizemix.evaluation.advice import Wish

    return Wish(options.max_latency_ms, options.max_gflops, options.min_top1)


def _of_run(run: RunFolder, overrides: Sequence[str]) -> DictConfig:
    refused = [override for override in overrides if not override.startswith(_CHANGEABLE)]
    if refused:
        raise UserError(
            "a run is evaluated as it was trained: expected options of evaluation, data, trainer and logger alone, "
            f"got {refused[0]}; leave it out."
        )
    config = run.config()
    if any(override.startswith("data=") for override in overrides):
        of_data, overrides = _parted(overrides, ("data=", "data."))
        config.data = compose(of_data).data
    for override in overrides:
        name = override.partition("=")[0]
        if OmegaConf.select(config, name.rpartition(".")[0]) is None:
            raise UserError(f"expected an option of the run, got {name}, which it has not; see {run.config_file}.")
    try:
        OmegaConf.set_struct(config, True)
        config.merge_with_dotlist(list(overrides))
        OmegaConf.set_struct(config, False)
    except Exception as error:  # a grammar of its own
        raise UserError(one_sentence(error)) from error
    _forget_choices_of_files(config, overrides)
    check_options(config)
    make_paths_absolute(config)
    return config


def _forget_choices_of_files(config: DictConfig, overrides: Sequence[str]) -> None:
    """Those of the run's own images say nothing of others."""
    if not _parted(overrides, ("data.root=",))[0]:
        return
    for name in ("split_file", "train_images"):
        if name in config.data and not _parted(overrides, (f"data.{name}=",))[0]:
            config.data[name] = None
