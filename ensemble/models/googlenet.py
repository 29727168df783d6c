"""GoogLeNet: Szegedy et al. 2014, "Going deeper with convolutions".

Kept: the inception modules of Table 1 under their names (3a … 5b), max pools between the groups,
global average pooling, dropout before the head.

Departures for small images: batch normalisation in place of local response normalisation and no
auxiliary classifiers (both as in Ioffe, Szegedy 2015); one 3x3 convolution and a max pool as the
stem; a part of the modules; all widths multiplied by `width`.

Parameters at 10 classes: `googlenet_small` 35,636.
"""

from collections.abc import Sequence

from torch import nn

from ensemble.models.layers import Branches, PooledClassifier, conv_bn_relu

STEM_CHANNELS = 192

MODULES: dict[str, tuple[int, int, int, int, int, int]] = {
    # 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(
    num_classes: int, *, groups: Sequence[Sequence[str]], width: float, dropout: float
) -> nn.Module:
    """Build a GoogLeNet.

    Args:
        num_classes: Number of classes of the head.
        groups: Names of the inception modules at each resolution, finest first.
        width: Factor on every number of channels of Table 1.
        dropout: Dropout probability before the head.
    """
    channels = round(STEM_CHANNELS * width)
    layers: list[nn.Module] = [conv_bn_relu(3, channels)]
    for names in groups:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        for name in names:
            module, channels = _inception(channels, [round(c * width) for c in MODULES[name]])
            layers.append(module)
    return PooledClassifier(nn.Sequential(*layers), channels, num_classes, dropout)


def _inception(in_channels: int, widths: Sequence[int]) -> tuple[nn.Module, int]:
    one, three_reduce, three, five_reduce, five, projection = widths
    module = Branches(
        conv_bn_relu(in_channels, one, 1),
        nn.Sequential(
            conv_bn_relu(in_channels, three_reduce, 1), conv_bn_relu(three_reduce, three)
        ),
        nn.Sequential(
            conv_bn_relu(in_channels, five_reduce, 1), conv_bn_relu(five_reduce, five, 5)
        ),
        nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv_bn_relu(in_channels, projection, 1)
        ),
    )
    return module, one + three + five + projection
