"""DenseNet-BC: Huang et al. 2016, "Densely connected convolutional networks".

Kept: every layer reads all earlier feature maps of its block and adds `growth` channels, through a
1x1 bottleneck of 4 x growth; transitions of a 1x1 convolution (compression 0.5) and a 2x2 average
pool; a stem of 2 x growth channels.

Departures for small images: none but fewer layers and a stem of one 3x3 convolution, as the paper
has it for CIFAR.

Options, as `densenet_small:activation=hardswish,growth=24`: the arguments of `densenet` but the number of classes.

Parameters at 10 classes: `densenet_small` 71,686.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ensemble.models.layers import FeatureMaps, PooledClassifier, conv, make_activation

BOTTLENECK_EXPANSION = 4
COMPRESSION = 0.5


class DenseLayer(nn.Module):
    """Append `growth` new channels to the input."""

    def __init__(self, in_channels: int, growth: int, activation: str = "relu") -> None:
        super().__init__()
        inner = BOTTLENECK_EXPANSION * growth
        self.new = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            make_activation(activation),
            conv(in_channels, inner, 1),
            nn.BatchNorm2d(inner),
            make_activation(activation),
            conv(inner, growth),
        )

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Keep height and width."""
        return torch.cat([features, self.new(features)], dim=1)


def densenet(
    num_classes: int, *, blocks: Sequence[int], growth: int, activation: str = "relu"
) -> nn.Module:
    """Build a DenseNet-BC.

    Args:
        num_classes: Number of classes of the head.
        blocks: Layers in each dense block; a transition that halves the grid stands between blocks.
        growth: Channels that each layer adds, the paper's k.
        activation: Name of the function between the layers; the paper's is relu.
    """
    channels = 2 * growth
    layers: list[nn.Module] = [conv(3, channels)]
    for block, num_layers in enumerate(blocks):
        if block > 0:
            layers.append(_transition(channels, activation))
            channels = int(channels * COMPRESSION)
        for _ in range(num_layers):
            layers.append(DenseLayer(channels, growth, activation))
            channels += growth
    layers += [nn.BatchNorm2d(channels), make_activation(activation)]
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes)


def _transition(channels: int, activation: str) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        make_activation(activation),
        conv(channels, int(channels * COMPRESSION), 1),
        nn.AvgPool2d(2),
    )
