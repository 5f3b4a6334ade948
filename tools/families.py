"""Trains the smallest member of every family at several sizes and writes which of them work into docs/methods.md.

    OMP_NUM_THREADS=1 python tools/families.py

Each network trains two steps at each of three sizes, then is evaluated at two more, with and without batch norms
recalibrated. Random images: this proves that sizes and normalisation work, not that anything is learned.
"""

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tables import write_table
from torch import Tensor, nn

from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone, training_flops
from sizemix.models.batchnorm import batch_norms, recalibrated

DOCS = Path(__file__).parents[1] / "docs" / "methods.md"
BATCH = 4
CLASSES = 10
COLUMNS = (
    "family",
    "model",
    "parameters (M)",
    "trained at",
    "evaluated at",
    "normalisation",
    "set by sizemix",
    "result",
)
NORMS = {
    "EvoNorm": "EvoNorm",
    "GroupNorm": "group norm",
    "SimpleNorm": "simple norm",
    "RmsNorm": "RMS norm",
    "LayerNorm": "layer norm",
}


@dataclass(frozen=True)
class Family:
    """A family of networks and the sizes that suit it, pixels."""

    name: str
    smallest: str
    train_sizes: tuple[int, ...] = (96, 128, 160)
    eval_sizes: tuple[int, ...] = (112, 192)
    refused: bool = False


FAMILIES = (
    Family("ResNet", "resnet10t"),
    Family("ResNet, CIFAR", "resnet20_cifar", (16, 24, 32), (20, 48)),
    Family("ResNet, group norm", "resnet50_gn"),
    Family("ResNet, EvoNorm", "resnetv2_50d_evos"),
    Family("ResNet-RS", "resnetrs50"),
    Family("ResNeXt", "resnext26ts"),
    Family("EfficientNet", "efficientnet_lite0"),
    Family("EfficientNetV2", "tf_efficientnetv2_b0"),
    Family("MobileNetV2", "mobilenetv2_035"),
    Family("MobileNetV3", "mobilenetv3_small_050"),
    Family("MobileNetV4", "mobilenetv4_conv_small_035"),
    Family("GhostNet", "ghostnet_050"),
    Family("Inception-v4", "inception_v4"),
    Family("Inception-ResNet-v2", "inception_resnet_v2"),
    Family("NASNet", "nasnetalarge"),
    Family("FBNetV3", "fbnetv3_b"),
    Family("RegNet", "regnetx_002"),
    Family("DenseNet", "densenet121"),
    Family("ConvNeXt", "convnext_zepto_rms"),
    Family("ConvNeXt V2", "convnextv2_atto"),
    Family("ViT", "vit_tiny_patch16_224"),
    Family("DeiT", "deit_tiny_patch16_224"),
    Family("Swin", "swin_tiny_patch4_window7_224"),
    Family("Swin V2", "swinv2_tiny_window8_256"),
    Family("CrossViT", "crossvit_tiny_240", (160, 192, 240), (208, 288), refused=True),
    Family("MLP-Mixer", "mixer_s16_224", refused=True),
)


def main() -> int:
    """Writes the table; 1 where a family does otherwise than expected."""
    torch.manual_seed(0)
    rows, surprises = [], []
    for family in FAMILIES:
        started = time.perf_counter()
        result, row = examine(family)
        rows.append(row)
        if (result != "trains") != family.refused:
            surprises.append(f"{family.smallest}: {result}")
        print(f"{time.perf_counter() - started:5.1f} s  {family.smallest}: {result}", flush=True)
    if surprises:
        print("otherwise than expected:", *surprises, sep="\n  ", file=sys.stderr)
        return 1
    write_table(DOCS, "families", COLUMNS, rows)
    return 0


def examine(family: Family) -> tuple[str, tuple[str, ...]]:
    """What became of a family, and its row."""
    net = build_backbone(family.smallest, num_classes=CLASSES)
    try:
        training_flops(net, [*family.train_sizes, *family.eval_sizes], name=family.smallest)
        train(net, family.train_sizes)
        for image_size in family.eval_sizes:
            evaluate(net, image_size)
        result = "trains"
    except UserError as refusal:
        result = f"refused: {shortened(str(refusal))}"
    except Exception as error:  # one broken family must not hide the others
        result = f"failed: {error!r}"
    parameters = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    described = (
        family.name,
        f"`{family.smallest}`",
        f"{parameters:.1f}",
        ", ".join(map(str, family.train_sizes)),
        ", ".join(map(str, family.eval_sizes)),
        normalisation(net),
        "`dynamic_img_size: true`" if getattr(net, "dynamic_img_size", False) else "",
        result,
    )
    return result, described


def train(net: nn.Module, image_sizes: tuple[int, ...]) -> None:
    """Two steps at each size; every step must move the weights and leave them finite."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    net.train()
    for image_size in image_sizes * 2:
        before = [parameter.detach().clone() for parameter in net.parameters()]
        loss = nn.functional.cross_entropy(net(images(image_size)), torch.arange(BATCH) % CLASSES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        require(bool(loss.isfinite()), f"a loss of {loss.item()} at {image_size} px")
        moved = any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
        require(moved, f"weights that did not move at {image_size} px")
        require(all(parameter.isfinite().all() for parameter in net.parameters()), f"infinite weights at {image_size}")


@torch.no_grad()
def evaluate(net: nn.Module, image_size: int) -> None:
    """Recalibration must change the outputs of a network with batch norms, and no other's."""
    net.eval()
    seen, calibration = images(image_size), [images(image_size) for _ in range(2)]
    plain = net(seen)
    with recalibrated(net, calibration):
        calibrated = net(seen)
    require(bool(calibrated.isfinite().all()), f"infinite outputs at {image_size} px, recalibrated")
    require(bool(plain.isfinite().all()), f"infinite outputs at {image_size} px")
    changed = not torch.equal(plain, calibrated)
    require(changed == bool(batch_norms(net)), f"outputs that recalibration {'changed' if changed else 'left'}")
    require(torch.equal(plain, net(seen)), "a network that recalibration did not restore")


def normalisation(net: nn.Module) -> str:
    """The kinds of a network's layers, and what recalibration does for them."""
    if batch_norms(net):
        return "batch norm: recalibrated"
    names = " ".join(type(module).__name__ for module in net.modules())
    found = next(kind for kind in NORMS if kind in names)
    return f"{NORMS[found]}: nothing to recalibrate"


def images(image_size: int) -> Tensor:
    """(BATCH, 3, image_size, image_size), normally distributed."""
    return torch.randn(BATCH, 3, image_size, image_size)


def shortened(refusal: str) -> str:
    """The refusal without the remedy."""
    return re.split(r"; (?:set|choose|it takes) ", refusal)[0]


def require(fulfilled: bool, otherwise: str) -> None:
    """Stops a family."""
    if not fulfilled:
        raise RuntimeError(f"got {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
