"""VGG: Simonyan, Zisserman 2014, "Very deep convolutional networks for large-scale recognition".

Kept: 3x3 convolutions with padding 1, 2x2 max pools, two hidden layers with dropout 0.5.

Departures for small images: batch normalisation after each convolution (paper: none), which takes
the place of the pre-initialisation from a shallower network; He's initialisation; configuration A
without its first pool, so that its eight convolutions all see more than one pixel of 16x16.

Parameters at 10 classes: `vgg11_small` 395,802.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from ensemble.models.layers import FlatClassifier, conv_bn_relu, initialise_he


def vgg(
    num_classes: int,
    *,
    layout: Sequence[int | Literal["pool"]],
    hidden: int,
    pooled_side: int,
) -> nn.Module:
    """Build a VGG network.

    Args:
        num_classes: Number of classes of the head.
        layout: Channels of each convolution, with "pool" where a 2x2 max pool stands.
        hidden: Units of each of the two hidden layers.
        pooled_side: Side of the feature map that the hidden layers read.
    """
    layers: list[nn.Module] = []
    channels = 3
    for entry in layout:
        if entry == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers.append(conv_bn_relu(channels, entry))
            channels = entry
    network = FlatClassifier(
        nn.Sequential(*layers), channels, num_classes, pooled_side=pooled_side, hidden=hidden
    )
    initialise_he(network)
    return network
