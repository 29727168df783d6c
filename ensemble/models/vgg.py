"""VGG: Simonyan, Zisserman 2014, "Very deep convolutional networks for large-scale recognition".

Kept: 3x3 convolutions with padding 1, 2x2 max pools, two hidden layers with dropout 0.5.

`vgg_a_lrn` is the paper's network, and `vgg_small:configuration=D` any of its configurations A, A-LRN, B, C, D and E
with an eighth of the channels, without the first pool, so that all convolutions see more than one pixel of 16x16. Both
have no batch normalisation; dropout acts on the outputs of the hidden layers. Departures: He's initialisation, unless
`initialisation=paper` draws N(0, 0.01) with biases of 0 as the authors did; A-LRN's constants are AlexNet's.

Departures of `vgg11_small`: batch normalisation after each convolution, which takes the place of the
pre-initialisation from a shallower network; He's initialisation; configuration A without its first pool; dropout of
the inputs of the hidden layers.

Options, as `vgg_small:configuration=E,width=0.25`: configuration, initialisation and width.

Parameters at 10 classes: `vgg11_small` 395,802, `vgg_small` 170,682; at 1,000: `vgg_a_lrn` 132,863,336.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from ensemble.errors import ConfigError
from ensemble.models.layers import (
    FlatClassifier,
    conv_bn_relu,
    initialise_he,
    initialise_normal,
    response_norm,
)

_PAIR = ("3", "3")
# Kernel sides of each block's convolutions, and LRN. Source: Simonyan, Zisserman 2014, Table 1.
CONFIGURATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "A": (("3",), ("3",), _PAIR, _PAIR, _PAIR),
    "A-LRN": (("3", "lrn"), ("3",), _PAIR, _PAIR, _PAIR),
    "B": (_PAIR, _PAIR, _PAIR, _PAIR, _PAIR),
    "C": (_PAIR, _PAIR, (*_PAIR, "1"), (*_PAIR, "1"), (*_PAIR, "1")),
    "D": (_PAIR, _PAIR, (*_PAIR, "3"), (*_PAIR, "3"), (*_PAIR, "3")),
    "E": (_PAIR, _PAIR, _PAIR * 2, _PAIR * 2, _PAIR * 2),
}
_CHANNELS = (64, 128, 256, 512, 512)


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


def published_vgg(
    num_classes: int,
    *,
    configuration: str,
    width: float,
    hidden: int,
    pooled_side: int,
    has_first_pool: bool,
    initialisation: Literal["he", "paper"] = "he",
) -> nn.Module:
    """Build one of the paper's configurations, without batch normalisation.

    Args:
        num_classes: Number of classes of the head.
        configuration: A, A-LRN, B, C, D or E.
        width: Factor on the channels of all convolutions.
        hidden: Units of each of the two hidden layers.
        pooled_side: Side of the feature map that the hidden layers read.
        has_first_pool: Whether the first block ends in a pool, as published.
        initialisation: Start from He's weights, or from the paper's.

    Raises:
        ConfigError: The width is not above 0.
    """
    if width <= 0:
        raise ConfigError(f"width={width:g}; take a factor above 0, as 0.25.")
    layers: list[nn.Module] = []
    channels = 3
    for number, (block, full) in enumerate(
        zip(CONFIGURATIONS[configuration], _CHANNELS, strict=True)
    ):
        out = max(1, round(width * full))
        for entry in block:
            if entry == "lrn":
                layers.append(response_norm())
                continue
            kernel = int(entry)
            layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU()]
            channels = out
        if number or has_first_pool:
            layers.append(nn.MaxPool2d(2))
    network = FlatClassifier(
        nn.Sequential(*layers),
        channels,
        num_classes,
        pooled_side=pooled_side,
        hidden=hidden,
        dropout_of="outputs",
    )
    if initialisation == "paper":
        initialise_normal(network, 0.01)
    else:
        initialise_he(network)
    return network
