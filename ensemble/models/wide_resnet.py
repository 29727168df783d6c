"""Wide ResNet: Zagoruyko, Komodakis 2016, "Wide residual networks".

Kept: pre-activation units of two 3x3 convolutions, three stages of 16k, 32k and 64k channels,
depth = 6 x units + 4, a 1x1 convolution of the activated input where the shape of a shortcut
changes, optional dropout between the two convolutions.

Departures for small images: none but the depth and the widening factor.

Options, as `wide_resnet16_2:activation=selu,widen=4`: the arguments of `wide_resnet` but the number of classes.

Parameters at 10 classes: `wide_resnet10_2` 303,706, `wide_resnet16_2` 691,674,
`wide_resnet28_10` 36,479,194.
"""

import torch
from torch import nn

from ensemble.errors import ConfigError
from ensemble.models.layers import FeatureMaps, PooledClassifier, conv, make_activation

STEM_CHANNELS = 16


class WideUnit(nn.Module):
    """Pre-activation residual unit."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        dropout: float,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels), make_activation(activation))
        self.residual = nn.Sequential(
            conv(in_channels, out_channels, 3, stride),
            nn.BatchNorm2d(out_channels),
            make_activation(activation),
            nn.Dropout(dropout),
            conv(out_channels, out_channels),
        )
        is_same_shape = in_channels == out_channels and stride == 1
        self.project = None if is_same_shape else conv(in_channels, out_channels, 1, stride)

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Apply the unit."""
        activated: torch.Tensor = self.activate(features)
        residual: torch.Tensor = self.residual(activated)
        return residual + (features if self.project is None else self.project(activated))


def wide_resnet(
    num_classes: int, *, depth: int, widen: int, dropout: float, activation: str = "relu"
) -> nn.Module:
    """Build a Wide ResNet, WRN-`depth`-`widen`.

    Args:
        num_classes: Number of classes of the head.
        depth: Number of layers, 6n + 4.
        widen: The paper's k, the factor on the channels.
        dropout: Dropout probability inside the units.
        activation: Name of the function between the layers; the paper's is relu.

    Raises:
        ConfigError: The depth is not 6n + 4 for an n of at least 1.
    """
    units, rest = divmod(depth - 4, 6)
    if rest or units < 1:
        raise ConfigError(
            f"a Wide ResNet cannot have depth {depth}; take 10, 16, 22, 28, … (6n+4)."
        )
    channels = STEM_CHANNELS
    layers: list[nn.Module] = [conv(3, channels)]
    for stage in range(3):
        out_channels = STEM_CHANNELS * widen * 2**stage
        for index in range(units):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(WideUnit(channels, out_channels, stride, dropout, activation))
            channels = out_channels
    layers += [nn.BatchNorm2d(channels), make_activation(activation)]
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes)
