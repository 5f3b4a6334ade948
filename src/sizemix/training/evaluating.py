"""Evaluates what a configuration describes."""

from contextlib import nullcontext

from omegaconf import DictConfig

from sizemix.evaluation.evaluation import Evaluation, EvaluationProtocol, evaluate
from sizemix.models.bank import Calibration
from sizemix.training.assembly import Run
from sizemix.training.compilation import uncompiled


def evaluate_run(run: Run, config: DictConfig) -> Evaluation:
    """Evaluates the trained network, or its average, at the configured sizes; several ranks share the work."""
    with uncompiled() if config.model.get("compile") else nullcontext():
        return evaluate(
            run.model.evaluated.to(run.trainer.strategy.root_device),
            run.datamodule,
            protocol(config),
            name=config.name,
            autocast=run.trainer.precision_plugin.forward_context,
            show_progress=config.trainer.enable_progress_bar,
        )


def protocol(config: DictConfig) -> EvaluationProtocol:
    """How the configuration wants networks evaluated."""
    settings = config.evaluation
    return EvaluationProtocol(
        image_sizes=tuple(settings.eval_sizes),
        reference_size=config.sizes.base_size,
        calibration=Calibration(
            num_images=settings.calibration_images,
            batch_size=config.recipe.base_batch_size,
            transform=settings.calibration_transform,
        ),
        measure=settings.measure,
    )
