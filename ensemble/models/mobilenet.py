"""MobileNet v2: Sandler et al. 2018, "Inverted residuals and linear bottlenecks".

Kept: units of 1x1 expansion, depthwise 3x3 and linear 1x1 projection with ReLU6, a shortcut where
the shape stays, a last 1x1 convolution before the pool.

Departures for small images: fewer and narrower units, a stem with stride 1, no dropout.

Parameters at 10 classes: `mobilenet_v2_small` 25,298.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ensemble.models.layers import FeatureMaps, PooledClassifier, conv


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project linearly; add the input where it fits."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        expand = [_conv_bn_relu6(in_channels, inner, 1)] if expansion > 1 else []
        self.residual = nn.Sequential(
            *expand,
            _conv_bn_relu6(inner, inner, 3, stride, groups=inner),
            conv(inner, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Apply the unit."""
        residual: torch.Tensor = self.residual(features)
        return features + residual if self.has_shortcut else residual


def mobilenet_v2(
    num_classes: int,
    *,
    stem: int,
    stages: Sequence[tuple[int, int, int, int]],
    last: int,
) -> nn.Module:
    """Build a MobileNet v2.

    Args:
        num_classes: Number of classes of the head.
        stem: Channels of the first convolution.
        stages: Expansion, channels, units and stride of each stage (t, c, n, s in Table 2).
        last: Channels before the pool.
    """
    channels = stem
    layers: list[nn.Module] = [_conv_bn_relu6(3, channels, 3)]
    for expansion, out_channels, num_units, stride in stages:
        for index in range(num_units):
            layers.append(
                InvertedResidual(channels, out_channels, expansion, stride if index == 0 else 1)
            )
            channels = out_channels
    layers.append(_conv_bn_relu6(channels, last, 1))
    return PooledClassifier(nn.Sequential(*layers), last, num_classes)


def _conv_bn_relu6(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride, groups),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )
