"""AlexNet: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep CNNs".

`alexnet` is the paper's: five convolutions, the first of 11x11 with stride 4 and 55x55 maps of 224x224 pixels (padding
2), the grouping of the two-GPU split in the second, fourth and fifth, ReLU, local response normalisation after the
first two, overlapping 3x3 pools with stride 2, dropout 0.5 of the outputs of both hidden layers, weights from N(0,
0.01), biases of 1 in the second, fourth and fifth convolution and both hidden layers and 0 elsewhere.

Departures of `alexnet_small`, for small images: the first convolution is 5x5 with stride 1, so that 16x16 pixels reach
the last pool; dropout of the inputs of both hidden layers; He's initialisation with zero biases, because a few hundred
steps do not grow weights of 0.01.

Options, as `alexnet_small:activation=tanh,has_lrn=false`: the last arguments of `alexnet`, from `activation` on.

Parameters at 10 classes: `alexnet_small` 100,426; at 1,000: `alexnet` 60,965,224.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from ensemble.errors import ConfigError
from ensemble.models.layers import (
    FlatClassifier,
    initialise_he,
    initialise_normal,
    make_activation,
    response_norm,
)

_REMOVABLE = (3, 4, 5)
_PAPERS_DEVIATION = 0.01


def alexnet(
    num_classes: int,
    *,
    widths: Sequence[int],
    stem_kernel: int,
    stem_stride: int,
    stem_padding: int,
    hidden: int,
    pooled_side: int,
    activation: str = "relu",
    dropout_of: Literal["inputs", "outputs", "none"] = "inputs",
    groups: int = 2,
    has_lrn: bool = True,
    initialisation: Literal["he", "paper"] = "he",
    pool: int = 3,
    width: float = 1.0,
    without: int = 0,
) -> nn.Module:
    """Build an AlexNet.

    Args:
        num_classes: Number of classes of the head.
        widths: Channels of the five convolutions.
        stem_kernel: Side of the first convolution, in pixels.
        stem_stride: Stride of the first convolution, in pixels.
        stem_padding: Black pixels on each side that the first convolution sees beyond the image.
        hidden: Units of each of the two hidden layers.
        pooled_side: Side of the feature map that the hidden layers read.
        activation: Name of the function after each layer; the paper's is relu.
        dropout_of: Whether dropout acts on the inputs of the hidden layers, on their outputs as in the paper, or
            not at all.
        groups: Groups of the second, fourth and fifth convolution; 2 in the paper, 1 for none.
        has_lrn: Normalise responses after the first two convolutions.
        initialisation: Start from He's weights, or from the paper's.
        pool: Side of the pools, whose stride is 2: 3 for the paper's overlapping ones, 2 for others.
        width: Factor on the channels of all convolutions.
        without: Number of a convolution that is left out, from 3 to 5; 0 for none.

    Raises:
        ConfigError: Groups do not divide the channels, or an option has a value that no AlexNet has.
    """
    _check(widths, groups, pool, width, without)
    first, *others = (round(width * channels) for channels in widths)
    layers: list[nn.Module] = [
        nn.Conv2d(3, first, stem_kernel, stride=stem_stride, padding=stem_padding),
        make_activation(activation),
        *([response_norm()] if has_lrn else []),
        nn.MaxPool2d(pool, stride=2),
    ]
    channels = first
    # Number, channels, kernel and groups of each further convolution.
    for number, (out, kernel, in_groups) in enumerate(
        zip(others, (5, 3, 3, 3), (groups, 1, groups, groups), strict=True), start=2
    ):
        if number == without:
            continue
        layers += [
            nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=in_groups),
            make_activation(activation),
        ]
        channels = out
        if number == 2:
            layers += [*([response_norm()] if has_lrn else []), nn.MaxPool2d(pool, stride=2)]
    features = nn.Sequential(*layers, nn.MaxPool2d(pool, stride=2))
    network = FlatClassifier(
        features,
        channels,
        num_classes,
        pooled_side=pooled_side,
        hidden=hidden,
        activation=activation,
        dropout_of=dropout_of,
    )
    initialise_he(network)
    if initialisation == "paper":
        _initialise_as_published(network, without)
    return network


def _check(widths: Sequence[int], groups: int, pool: int, width: float, without: int) -> None:
    if groups < 1 or any(round(width * channels) % groups for channels in widths):
        raise ConfigError(
            f"groups={groups} does not divide the channels {[round(width * c) for c in widths]}; take 2 or 1."
        )
    if pool not in (2, 3):
        raise ConfigError(f"pool={pool}; take 3, as published, or 2.")
    if width <= 0:
        raise ConfigError(f"width={width:g}; take a factor above 0, as 0.5.")
    if without and without not in _REMOVABLE:
        raise ConfigError(f"without={without}; one of the convolutions 3, 4 and 5 can be left out.")


def _initialise_as_published(network: FlatClassifier, without: int) -> None:
    """Draw weights from N(0, 0.01), and set biases to 1 in convolutions 2, 4 and 5 and in the hidden layers."""
    numbers = [number for number in (1, 2, 3, 4, 5) if number != without]
    convolutions = [m for m in network.features.modules() if isinstance(m, nn.Conv2d)]
    hidden = [m for m in network.hidden if isinstance(m, nn.Linear)]
    ones = [c for n, c in zip(numbers, convolutions, strict=True) if n in (2, 4, 5)] + hidden
    initialise_normal(network, _PAPERS_DEVIATION)
    for layer in ones:
        assert layer.bias is not None
        nn.init.ones_(layer.bias)
