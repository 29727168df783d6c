"""ResNet: He et al. 2015, "Deep residual learning for image recognition".

Kept: the stem of one 3x3 convolution and the three stages of the paper's CIFAR networks, basic
units (depth = 6 x blocks + 2) and bottleneck units (depth = 9 x blocks + 2), stride at the first
unit of a stage.

Departures for small images: projections (option B) where the shape of a shortcut changes, while the
paper's CIFAR networks pad with zeros (option A).

Options, as `resnet20_cifar:activation=tanh,blocks=9-9-9`: the arguments of `resnet` but the number of classes.

Parameters at 10 classes: `resnet14_small` 175,258, `resnet20_cifar` 272,474,
`resnet20_bottleneck_small` 56,754, `resnet110_cifar` 1,730,714.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ensemble.models.layers import (
    FeatureMaps,
    PooledClassifier,
    conv,
    conv_bn_relu,
    make_activation,
)

BOTTLENECK_EXPANSION = 4


class ResidualUnit(nn.Module):
    """Add the shortcut to the residual, then ReLU or another activation."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module, activation: str = "relu") -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self.activate = make_activation(activation)

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Apply the unit; residual and shortcut agree in shape."""
        residual: torch.Tensor = self.residual(features)
        activated: torch.Tensor = self.activate(residual + self.shortcut(features))
        return activated


def resnet(
    num_classes: int,
    *,
    blocks: Sequence[int],
    width: int,
    is_bottleneck: bool,
    activation: str = "relu",
) -> nn.Module:
    """Build a ResNet.

    Args:
        num_classes: Number of classes of the head.
        blocks: Units in each stage; each stage after the first halves height and width.
        width: Inner channels of the first stage, doubled at each stage.
        is_bottleneck: Build units of 1x1, 3x3, 1x1 with fourfold output instead of two 3x3.
        activation: Name of the function between the layers; the paper's is relu.
    """
    unit = _bottleneck_unit if is_bottleneck else _basic_unit
    channels = width
    layers: list[nn.Module] = [conv_bn_relu(3, channels, activation=activation)]
    for stage, num_units in enumerate(blocks):
        inner = width * 2**stage
        out_channels = inner * BOTTLENECK_EXPANSION if is_bottleneck else inner
        for index in range(num_units):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(
                ResidualUnit(
                    unit(channels, inner, stride, activation),
                    _shortcut(channels, out_channels, stride),
                    activation,
                )
            )
            channels = out_channels
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes)


def _basic_unit(in_channels: int, inner: int, stride: int, activation: str) -> nn.Module:
    return nn.Sequential(
        conv_bn_relu(in_channels, inner, 3, stride, activation),
        conv(inner, inner),
        nn.BatchNorm2d(inner),
    )


def _bottleneck_unit(in_channels: int, inner: int, stride: int, activation: str) -> nn.Module:
    out_channels = inner * BOTTLENECK_EXPANSION
    return nn.Sequential(
        conv_bn_relu(in_channels, inner, 1, activation=activation),
        conv_bn_relu(inner, inner, 3, stride, activation),
        conv(inner, out_channels, 1),
        nn.BatchNorm2d(out_channels),
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))
