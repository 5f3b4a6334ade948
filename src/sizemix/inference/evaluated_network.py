"""The network that `sizemix evaluate` is to look at, and what its outputs mean: of a run, or of any timm weights."""

from dataclasses import dataclass

from omegaconf import DictConfig
from timm.models import resolve_pretrained_cfg
from torch import nn

from sizemix.data.preprocessing import Preprocessing
from sizemix.data.sources import DataSource
from sizemix.errors import UserError
from sizemix.evaluation.classes import names_of_outputs
from sizemix.inference.loading import run_network, run_summary
from sizemix.models.backbone import preprocessing_of
from sizemix.models.weights import num_outputs, read_weights
from sizemix.runs.folder import RunFolder
from sizemix.training.instantiate import instantiate, without


@dataclass(frozen=True)
class EvaluatedNetwork:
    """A trained network.

    Attributes:
        net: images to logits, in eval mode.
        name: what reports call it.
        outputs: names of its classes; None where nobody knows them.
        num_outputs: how many there are.
        preprocessing: what it was trained to see.
    """

    net: nn.Module
    name: str
    outputs: list[str] | None
    num_outputs: int
    preprocessing: Preprocessing


def of_a_run(folder: RunFolder, *, trust_target: bool) -> EvaluatedNetwork:
    """A finished run's.

    Raises:
        UserError: it has not finished, or builds a network of somebody's own.
    """
    summary = run_summary(folder)
    names = list(summary.class_names)
    net = run_network(folder, num_classes=len(names), trust_target=trust_target)
    return EvaluatedNetwork(net, folder.config().name, names, len(names), summary.preprocessing)


def of_a_configuration(config: DictConfig, dataset: DataSource) -> EvaluatedNetwork:
    """Any timm network with trained weights and the outputs that these have, whoever trained it.

    Raises:
        UserError: no trained weights.
    """
    settings = without(config.model, "compile")
    if not (settings.get("pretrained") or settings.get("checkpoint")):
        raise UserError(
            "expected trained weights, got none; give a run's folder, model.checkpoint=FILE or model.pretrained=true."
        )
    if settings.get("checkpoint"):
        outputs = num_outputs(read_weights(settings.checkpoint), settings.name)
    else:
        outputs = resolve_pretrained_cfg(settings.name).num_classes
    net: nn.Module = instantiate(settings, "model", num_classes=outputs).eval()
    of_photos = preprocessing_of(net)
    preprocessing = of_photos if dataset.preprocessing is None else of_photos.of_small_images
    return EvaluatedNetwork(net, settings.name, names_of_outputs(net, outputs), outputs, preprocessing)
