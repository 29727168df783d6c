"""PyramidNet: Han, Kim, Kim 2016, "Deep pyramidal residual networks".

Kept: additive widening (each of the N units adds alpha / N channels to the 16 of the stem) and
multiplicative widening (each multiplies them by alpha^(1/N)), units
of BN-conv-BN-ReLU-conv-BN without a ReLU at the entry, shortcuts padded with zero channels and
averaged over 2x2 where the stride is 2, bottleneck units with fourfold output.

Units per stage are (depth - 2) // 6, or // 9 with bottlenecks, as in the authors' code.

Departures for small images: none but the depth and alpha.

Options, as `pyramidnet20:alpha=48,depth=110,shakedrop=0.5`: the arguments of `pyramidnet` but the number of classes.

Parameters at 10 classes: `pyramidnet20` 143,133, `pyramidnet110_a48` 1,772,706 (published: 1.7 M),
`pyramidnet196_a48` 1,996,512 (bottlenecks, else it has 3.1 M). A study of PyramidNets within 2 M
parameters has bottlenecks in all five: `pyramidnet110_a4.75_bottleneck` 222,884,
`pyramidnet110_a48_bottleneck` 1,153,458, `pyramidnet128_a64_bottleneck` 1,970,726,
`pyramidnet164_a48_bottleneck` 1,715,442, and `pyramidnet196_a48`.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from ensemble.errors import ConfigError
from ensemble.models.layers import FeatureMaps, PooledClassifier, conv, make_activation
from ensemble.models.shakedrop import ShakeDrop, keep_probabilities

STEM_CHANNELS = 16
BOTTLENECK_EXPANSION = 4


class PyramidUnit(nn.Module):
    """Residual unit whose shortcut has no parameters."""

    def __init__(self, residual: nn.Module, stride: int, keep: float = 1.0) -> None:
        super().__init__()
        self.residual = residual
        self.shake = ShakeDrop(keep) if keep < 1 else nn.Identity()
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Apply the unit; new channels start from a shortcut of zeros."""
        residual: torch.Tensor = self.shake(self.residual(features))
        shortcut: torch.Tensor = self.pool(features)
        num_new = residual.shape[1] - shortcut.shape[1]
        return residual + functional.pad(shortcut, (0, 0, 0, 0, 0, num_new))


def pyramidnet(
    num_classes: int,
    *,
    depth: int,
    alpha: float,
    is_bottleneck: bool,
    widening: Literal["additive", "multiplicative"] = "additive",
    activation: str = "relu",
    shakedrop: float = 1.0,
) -> nn.Module:
    """Build a PyramidNet.

    Args:
        num_classes: Number of classes of the head.
        depth: Number of layers; rounded down to whole units.
        alpha: Channels added over all units together; with multiplicative widening the ratio of the last
            unit's channels to the stem's.
        is_bottleneck: Build units of 1x1, 3x3, 1x1 with fourfold output instead of two 3x3.
        widening: How the channels grow from unit to unit.
        activation: Name of the function between the layers.
        shakedrop: Probability that the last unit's residual is left as it is; 1 for no ShakeDrop.

    Raises:
        ConfigError: The depth is too small for one unit per stage, or the probability is none.
    """
    unit = _bottleneck_unit if is_bottleneck else _basic_unit
    units = (depth - 2) // (9 if is_bottleneck else 6)
    if units < 1:
        raise ConfigError(f"a PyramidNet of depth {depth} has no unit; take a depth of 11 or more.")
    layers: list[nn.Module] = [conv(3, STEM_CHANNELS), nn.BatchNorm2d(STEM_CHANNELS)]
    channels, keeps = STEM_CHANNELS, keep_probabilities(3 * units, shakedrop)
    for index, keep in enumerate(keeps):
        if widening == "additive":
            inner = round(STEM_CHANNELS + alpha * (index + 1) / (3 * units))
        else:
            inner = round(STEM_CHANNELS * alpha ** ((index + 1) / (3 * units)))
        stride = 2 if index in (units, 2 * units) else 1
        layers.append(PyramidUnit(unit(channels, inner, stride, activation), stride, keep))
        channels = inner * BOTTLENECK_EXPANSION if is_bottleneck else inner
    layers += [nn.BatchNorm2d(channels), make_activation(activation)]
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes)


def _basic_unit(in_channels: int, inner: int, stride: int, activation: str) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        conv(in_channels, inner, 3, stride),
        nn.BatchNorm2d(inner),
        make_activation(activation),
        conv(inner, inner),
        nn.BatchNorm2d(inner),
    )


def _bottleneck_unit(in_channels: int, inner: int, stride: int, activation: str) -> nn.Module:
    out_channels = inner * BOTTLENECK_EXPANSION
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        conv(in_channels, inner, 1),
        nn.BatchNorm2d(inner),
        make_activation(activation),
        conv(inner, inner, 3, stride),
        nn.BatchNorm2d(inner),
        make_activation(activation),
        conv(inner, out_channels, 1),
        nn.BatchNorm2d(out_channels),
    )
