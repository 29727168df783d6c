"""Inception-ResNet v2: Szegedy et al. 2016, "Inception-v4, Inception-ResNet and the impact of …".

Kept: the residual inception modules A, B and C, each closed by a linear 1x1 convolution whose
output is scaled down before it is added, the two reductions, the 1x1 convolution before the pool.

Departures for small images: a stem of two 3x3 convolutions, the second with stride 2; one module of
each kind; n = 3 instead of 7 in B; less dropout; all widths multiplied by `width`.

Parameters at 10 classes: `inception_resnet_small` 207,338.
"""

import torch
from torch import nn

from ensemble.models.layers import Branches, FeatureMaps, PooledClassifier, conv_bn_relu

STEM_CHANNELS = (64, 320)
LAST_CHANNELS = 1536
SCALE_A, SCALE_B, SCALE_C = 0.17, 0.10, 0.20


class ScaledResidual(nn.Module):
    """Add the scaled, linearly projected branches to the input, then ReLU."""

    def __init__(self, branches: nn.Module, inner: int, channels: int, scale: float) -> None:
        super().__init__()
        self.branches = branches
        self.project = nn.Conv2d(inner, channels, 1)
        self.scale = scale

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Keep the shape of the input."""
        residual: torch.Tensor = self.project(self.branches(features))
        return torch.relu(features + self.scale * residual)


def inception_resnet(
    num_classes: int,
    *,
    modules: tuple[int, int, int],
    long_kernel: int,
    width: float,
    dropout: float,
) -> nn.Module:
    """Build an Inception-ResNet v2.

    Args:
        num_classes: Number of classes of the head.
        modules: Number of modules A, B and C (paper: 5, 10, 5; the published weights 10, 20, 10).
        long_kernel: The n of 1 x n in module B (paper: 7).
        width: Factor on every number of channels.
        dropout: Dropout probability before the head.
    """
    num_a, num_b, num_c = modules
    first, channels = round(STEM_CHANNELS[0] * width), round(STEM_CHANNELS[1] * width)
    layers: list[nn.Module] = [conv_bn_relu(3, first), conv_bn_relu(first, channels, stride=2)]
    layers += [_module_a(channels, width) for _ in range(num_a)]
    layers.append(_reduction_a(channels, width))
    channels += 2 * round(384 * width)
    layers += [_module_b(channels, long_kernel, width) for _ in range(num_b)]
    layers.append(_reduction_b(channels, width))
    channels += round(384 * width) + round(288 * width) + round(320 * width)
    layers += [_module_c(channels, width) for _ in range(num_c)]
    last = round(LAST_CHANNELS * width)
    layers.append(conv_bn_relu(channels, last, 1))
    return PooledClassifier(nn.Sequential(*layers), last, num_classes, dropout)


def _module_a(channels: int, width: float) -> nn.Module:
    c32, c48, c64 = (round(c * width) for c in (32, 48, 64))
    branches = Branches(
        conv_bn_relu(channels, c32, 1),
        nn.Sequential(conv_bn_relu(channels, c32, 1), conv_bn_relu(c32, c32)),
        nn.Sequential(
            conv_bn_relu(channels, c32, 1), conv_bn_relu(c32, c48), conv_bn_relu(c48, c64)
        ),
    )
    return ScaledResidual(branches, 2 * c32 + c64, channels, SCALE_A)


def _module_b(channels: int, n: int, width: float) -> nn.Module:
    c128, c160, c192 = (round(c * width) for c in (128, 160, 192))
    branches = Branches(
        conv_bn_relu(channels, c192, 1),
        nn.Sequential(
            conv_bn_relu(channels, c128, 1),
            conv_bn_relu(c128, c160, (1, n)),
            conv_bn_relu(c160, c192, (n, 1)),
        ),
    )
    return ScaledResidual(branches, 2 * c192, channels, SCALE_B)


def _module_c(channels: int, width: float) -> nn.Module:
    c192, c224, c256 = (round(c * width) for c in (192, 224, 256))
    branches = Branches(
        conv_bn_relu(channels, c192, 1),
        nn.Sequential(
            conv_bn_relu(channels, c192, 1),
            conv_bn_relu(c192, c224, (1, 3)),
            conv_bn_relu(c224, c256, (3, 1)),
        ),
    )
    return ScaledResidual(branches, c192 + c256, channels, SCALE_C)


def _reduction_a(channels: int, width: float) -> nn.Module:
    c256, c384 = round(256 * width), round(384 * width)
    return Branches(
        conv_bn_relu(channels, c384, 3, stride=2),
        nn.Sequential(
            conv_bn_relu(channels, c256, 1),
            conv_bn_relu(c256, c256),
            conv_bn_relu(c256, c384, 3, stride=2),
        ),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _reduction_b(channels: int, width: float) -> nn.Module:
    c256, c288, c320, c384 = (round(c * width) for c in (256, 288, 320, 384))
    return Branches(
        nn.Sequential(conv_bn_relu(channels, c256, 1), conv_bn_relu(c256, c384, 3, stride=2)),
        nn.Sequential(conv_bn_relu(channels, c256, 1), conv_bn_relu(c256, c288, 3, stride=2)),
        nn.Sequential(
            conv_bn_relu(channels, c256, 1),
            conv_bn_relu(c256, c288),
            conv_bn_relu(c288, c320, 3, stride=2),
        ),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
