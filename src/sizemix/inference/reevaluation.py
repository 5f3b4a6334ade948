"""Evaluates a trained network outside its training: with other sizes, on other images, or one that was never ours."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from sizemix.data.datamodule import SizedDataModule
from sizemix.data.sources import DataSource
from sizemix.errors import UserError
from sizemix.evaluation.advice import Advice, Wish
from sizemix.evaluation.classes import outputs_of_classes
from sizemix.evaluation.evaluation import Evaluation, evaluate
from sizemix.evaluation.robustness import Robustness, robustness
from sizemix.inference.evaluated_network import EvaluatedNetwork, of_a_configuration, of_a_run
from sizemix.inference.trust import check_targets
from sizemix.loggers.described import described
from sizemix.loggers.guarded import GuardedLogger, opened
from sizemix.models.memory import check_evaluation_memory
from sizemix.report.curve import class_table, cost_table, curve_table
from sizemix.report.evaluation import curve_figures, extend_bank, write_evaluation
from sizemix.report.robustness import robustness_table, write_robustness_csv
from sizemix.runs.folder import EvaluationFiles, RunFolder
from sizemix.training.assembly import additional_loggers, idle_trainer
from sizemix.training.evaluating import protocol
from sizemix.training.images import evaluated_batches, open_dataset, serve
from sizemix.training.instantiate import plain


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        config: of the run, or composed; of one device.
        run: the run; None: config.model describes the network.
        own_images: whether the images are those that the run was evaluated on.
        out: folder for the results.
        wish: what the advised size must fulfil.
        robustness: whether to look at scales and shifts as well.
        trust_target: whether to call what the run's configuration names although it is not sizemix's.
    """

    config: DictConfig
    run: RunFolder | None
    own_images: bool
    out: Path
    wish: Wish
    robustness: bool
    trust_target: bool


def carry_out(request: Request) -> None:
    """Evaluates, writes the results, shows them, and hands them to the loggers that are asked for.

    Raises:
        UserError: anything that does not fit, or a wish that no size fulfils; the results are written before that.
    """
    if request.run is not None:
        config, trust = request.config, request.trust_target
        check_targets(config.data, config.trainer, where=request.run.path, trust_target=trust)
    _claim(request.out)
    loggers = additional_loggers(request.config, request.out, images_seen=lambda step: 0)  # no figure has a step
    with opened(loggers, required=True):
        advice, refusal = _measure(request, loggers)
    if advice is None:
        raise UserError(refusal)
    print(advice.sentence)


def _measure(request: Request, loggers: list[GuardedLogger]) -> tuple[Advice | None, str]:
    """The advice, or why there is none."""
    config, run = request.config, request.run
    trainer = idle_trainer(config)
    dataset = _images(request)
    network = of_a_run(run, trust_target=request.trust_target) if run else of_a_configuration(config, dataset)
    outputs = outputs_of_classes(dataset.class_names, network.outputs, num_outputs=network.num_outputs)
    datamodule = serve(config, dataset, network.preprocessing)
    datamodule.trainer = trainer
    datamodule.setup("test")
    net = network.net.to(trainer.strategy.root_device)
    _check_memory(net, request, dataset, trainer)
    autocast = trainer.precision_plugin.forward_context
    evaluation = evaluate(net, datamodule, protocol(config), name=network.name, autocast=autocast, outputs=outputs)
    advice, refusal = _advised(evaluation, request.wish)
    files, title = EvaluationFiles(request.out), f"{network.name} on {dataset.name}"
    names = _class_names(network, dataset, outputs)
    write_evaluation(evaluation, files, class_names=names, title=title, advice=advice)
    for logger in loggers:
        logger.log_hyperparams(described(plain(config)))
        logger.log_metrics(curve_figures(evaluation))
        logger.show_evaluation(evaluation, files)
    if run is not None and request.own_images and evaluation.bank.statistics:
        added = extend_bank(evaluation.bank, run.evaluation)
        print(
            f"{run.evaluation.bank_file} has these sizes now."
            if added
            else f"Calibrated otherwise than the run: the statistics stand in {files.bank_file} alone."
        )
    steady = None
    if request.robustness:
        sizes, statistics = evaluation.protocol.image_sizes, evaluation.bank.statistics
        steady = robustness(
            net, datamodule, image_sizes=sizes, statistics=statistics, autocast=autocast, outputs=outputs
        )
        write_robustness_csv(steady, files.robustness_csv)
    _show(evaluation, request, names=names, title=title, steady=steady, datamodule=datamodule)
    return advice, refusal


def _claim(folder: Path) -> None:
    """Notices before anything is measured that results could not be written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out: expected a folder that can be written, got {folder}; give another.")


def _check_memory(net: nn.Module, request: Request, dataset: DataSource, trainer: pl.Trainer) -> None:
    sizes, batches = request.config.evaluation.eval_sizes, evaluated_batches(request.config, dataset)
    device, autocast = trainer.strategy.root_device, trainer.precision_plugin.forward_context
    check_evaluation_memory(net, image_sizes={size: batches[size] for size in sizes}, device=device, autocast=autocast)


def _advised(evaluation: Evaluation, wish: Wish) -> tuple[Advice | None, str]:
    """The advice, or why there is none: then what has been measured is kept all the same."""
    try:
        return evaluation.advice(wish), ""
    except UserError as error:
        return None, str(error)


def _images(request: Request) -> DataSource:
    """The images, split as the run has them; others are split anew and listed in the results' folder."""
    if request.run is not None and request.own_images:
        return open_dataset(request.config, request.run)
    listed = RunFolder(request.out)
    for file in (listed.split_csv, listed.broken_csv):
        file.unlink(missing_ok=True)  # of an earlier evaluation, maybe of other images
    return open_dataset(request.config, listed)


def _class_names(network: EvaluatedNetwork, dataset: DataSource, outputs: list[int]) -> list[str]:
    """One an output; those that the images do not show have the network's names, or numbers."""
    names = list(network.outputs or map(str, range(network.num_outputs)))
    for name, output in zip(dataset.class_names, outputs, strict=True):
        names[output] = name
    return names


def _show(
    evaluation: Evaluation,
    request: Request,
    *,
    names: list[str],
    title: str,
    steady: list[Robustness] | None,
    datamodule: SizedDataModule,
) -> None:
    console = Console(highlight=False, markup=False)
    points, costs = evaluation.points, evaluation.costs
    console.print(
        curve_table(points, costs, title=f"Test top-1, {title}", num_classes=len(names), detailed=True),
        class_table(evaluation.classes, names, image_size=evaluation.protocol.nearest_reference),
        cost_table(costs, measured_on=evaluation.device),
    )
    if steady is not None:
        console.print(robustness_table(steady, points))
    if datamodule.unreadable:
        console.print(f"{len(datamodule.unreadable)} files could not be read, such as {min(datamodule.unreadable)}.")
    console.print(f"Written: {request.out}/curve.csv, curve.json, curve.png, cost.csv and more", soft_wrap=True)
