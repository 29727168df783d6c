"""Inception v3: Szegedy et al. 2015, "Rethinking the inception architecture for computer vision".

Kept: its three kinds of modules (two stacked 3x3 for a 5x5; n x n factorised into 1 x n and n x 1;
the expanded filter bank at the coarsest grid), the two parallel grid reductions, dropout 0.5.

Departures for small images: a stem of two 3x3 convolutions, the second with stride 2; one module of
each kind; n = 3 instead of 7; no auxiliary classifier; all widths multiplied by `width`.

Parameters at 10 classes: `inception_v3_small` 139,942.
"""

from collections.abc import Sequence

from torch import nn

from ensemble.models.layers import Branches, PooledClassifier, conv_bn_relu

STEM_CHANNELS = (64, 192)


def inception_v3(
    num_classes: int,
    *,
    projections: Sequence[int],
    middles: Sequence[int],
    num_coarse: int,
    long_kernel: int,
    width: float,
    dropout: float,
) -> nn.Module:
    """Build an Inception v3.

    Args:
        num_classes: Number of classes of the head.
        projections: Pool projection of each module of the first kind (paper: 32, 64, 64).
        middles: Inner channels of each factorised module (paper: 128, 160, 160, 192).
        num_coarse: Modules with the expanded filter bank (paper: 2).
        long_kernel: The n of 1 x n (paper: 7).
        width: Factor on every number of channels.
        dropout: Dropout probability before the head.
    """
    first, channels = (round(c * width) for c in STEM_CHANNELS)
    layers: list[nn.Module] = [conv_bn_relu(3, first), conv_bn_relu(first, channels, stride=2)]
    for projection in projections:
        layers.append(_stacked(channels, projection, width))
        channels = _channels(width, 64, 64, 96, projection)
    layers.append(_first_reduction(channels, width))
    channels += _channels(width, 384, 96)
    for middle in middles:
        layers.append(_factorised(channels, middle, long_kernel, width))
        channels = _channels(width, 192, 192, 192, 192)
    layers.append(_second_reduction(channels, long_kernel, width))
    channels += _channels(width, 320, 192)
    for _ in range(num_coarse):
        layers.append(_expanded(channels, width))
        channels = _channels(width, 320, 384, 384, 384, 384, 192)
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes, dropout)


def _channels(width: float, *widths: int) -> int:
    return sum(round(c * width) for c in widths)


def _chain(
    in_channels: int, width: float, *steps: tuple[int, int | tuple[int, int]], stride: int = 1
) -> nn.Sequential:
    """Convolutions of (unscaled channels, kernel) one after the other; the last one strides."""
    layers: list[nn.Module] = []
    for step, (out_channels, kernel) in enumerate(steps, start=1):
        scaled = round(out_channels * width)
        layers.append(
            conv_bn_relu(in_channels, scaled, kernel, stride if step == len(steps) else 1)
        )
        in_channels = scaled
    return nn.Sequential(*layers)


def _pooled(in_channels: int, width: float, projection: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AvgPool2d(3, stride=1, padding=1), _chain(in_channels, width, (projection, 1))
    )


def _stacked(channels: int, projection: int, width: float) -> nn.Module:
    return Branches(
        _chain(channels, width, (64, 1)),
        _chain(channels, width, (48, 1), (64, 5)),
        _chain(channels, width, (64, 1), (96, 3), (96, 3)),
        _pooled(channels, width, projection),
    )


def _first_reduction(channels: int, width: float) -> nn.Module:
    return Branches(
        _chain(channels, width, (384, 3), stride=2),
        _chain(channels, width, (64, 1), (96, 3), (96, 3), stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _factorised(channels: int, middle: int, n: int, width: float) -> nn.Module:
    across, down = (1, n), (n, 1)
    return Branches(
        _chain(channels, width, (192, 1)),
        _chain(channels, width, (middle, 1), (middle, across), (192, down)),
        _chain(
            channels,
            width,
            (middle, 1),
            (middle, down),
            (middle, across),
            (middle, down),
            (192, across),
        ),
        _pooled(channels, width, 192),
    )


def _second_reduction(channels: int, n: int, width: float) -> nn.Module:
    return Branches(
        _chain(channels, width, (192, 1), (320, 3), stride=2),
        _chain(channels, width, (192, 1), (192, (1, n)), (192, (n, 1)), (192, 3), stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _expanded(channels: int, width: float) -> nn.Module:
    return Branches(
        _chain(channels, width, (320, 1)),
        nn.Sequential(_chain(channels, width, (384, 1)), _split(round(384 * width), width)),
        nn.Sequential(
            _chain(channels, width, (448, 1), (384, 3)), _split(round(384 * width), width)
        ),
        _pooled(channels, width, 192),
    )


def _split(channels: int, width: float) -> nn.Module:
    return Branches(_chain(channels, width, (384, (1, 3))), _chain(channels, width, (384, (3, 1))))
