"""The CIFAR ResNets of the paper's authors, registered with timm.

He et al. 2016 (arXiv 1512.03385, section 4.2) with two details of the Mix & Match code: shortcuts that change shape
are 1 x 1 projections, and the scale of each block's last batch norm starts at zero. A global pool instead of an
8 x 8 one lets the network take every size.
"""

from typing import Any, Literal

import torch
from timm.layers import DropPath
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTHS = (16, 32, 64)


class _Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, *, stride: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        same_shape = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same_shape else _projection(in_channels, channels, stride)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + self.drop_path(branch))


class ResNetCifar(nn.Module):
    """A CIFAR ResNet of depth 6n + 2.

    Args:
        blocks_per_stage: n.
        num_classes: outputs; 0 leaves the pooled features.
        in_chans: channels of the input.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; it grows linearly from the first.
        global_pool: avg, or empty for none.
    """

    def __init__(
        self,
        blocks_per_stage: int,
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: Literal["avg", ""] = "avg",
    ) -> None:
        super().__init__()
        self.num_features = _WIDTHS[-1]
        self.conv1 = nn.Conv2d(in_chans, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.stages = _stages(blocks_per_stage, drop_path_rate)
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes, global_pool)
        self.apply(_initialise)
        for block in self.stages.modules():
            if isinstance(block, _Block):
                nn.init.zeros_(block.bn2.weight)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Which parameters lie how deep, for timm's layer-wise learning rates: stem, then stages or blocks."""
        return {"stem": r"^conv1|bn1", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: Literal["avg", ""] = "avg") -> None:
        """Puts a new last layer in place; 0 classes take it away."""
        self.num_classes = num_classes
        self.global_pool = global_pool
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """(batch, in_chans, size, size) to (batch, 64, size / 4, size / 4)."""
        features: Tensor = self.stages(F.relu(self.bn1(self.conv1(x))))
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to (batch, num_classes)."""
        if self.global_pool:
            x = x.mean((2, 3))
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_chans, size, size) to (batch, num_classes)."""
        return self.forward_head(self.forward_features(x))


def _stages(blocks_per_stage: int, drop_path_rate: float) -> nn.Sequential:
    drop_paths = torch.linspace(0, drop_path_rate, 3 * blocks_per_stage).tolist()
    stages, in_channels = [], _WIDTHS[0]
    for stage, channels in enumerate(_WIDTHS):
        blocks = []
        for number in range(blocks_per_stage):
            stride = 2 if stage > 0 and number == 0 else 1
            blocks.append(_Block(in_channels, channels, stride=stride, drop_path=drop_paths.pop(0)))
            in_channels = channels
        stages.append(nn.Sequential(*blocks))
    return nn.Sequential(*stages)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _configuration() -> dict[str, Any]:
    return {
        "input_size": (3, 32, 32),
        "num_classes": 10,
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.247, 0.2435, 0.2616),
        "first_conv": "conv1",
        "classifier": "fc",
    }


default_cfgs = generate_default_cfgs({f"resnet{depth}_cifar": _configuration() for depth in (20, 44, 56)})


def _create(variant: str, blocks_per_stage: int, pretrained: bool, **kwargs: Any) -> ResNetCifar:
    model: ResNetCifar = build_model_with_cfg(
        ResNetCifar, variant, pretrained, blocks_per_stage=blocks_per_stage, **kwargs
    )
    return model


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> ResNetCifar:
    """0.27 M parameters, 41 MMACs at 32 px."""
    return _create("resnet20_cifar", 3, pretrained, **kwargs)


@register_model
def resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> ResNetCifar:
    """0.66 M parameters, 98 MMACs at 32 px; the paper's CIFAR network."""
    return _create("resnet44_cifar", 7, pretrained, **kwargs)


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> ResNetCifar:
    """0.86 M parameters, 127 MMACs at 32 px."""
    return _create("resnet56_cifar", 9, pretrained, **kwargs)
