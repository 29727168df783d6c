"""AlexNet: Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep CNNs".

Kept: five convolutions with the grouping of the two-GPU split, ReLU, local response normalisation
after the first two, overlapping 3x3 pools with stride 2, dropout 0.5 before both hidden layers.

Departures for small images: the first convolution is 5x5 with stride 1 (paper: 11x11, stride 4),
so that 16x16 pixels reach the last pool; He's initialisation with zero biases (paper: N(0, 0.01)
and ones), because a few hundred steps do not grow weights of 0.01.

Parameters at 10 classes: `alexnet_small` 100,426; at 1,000: `alexnet` 60,965,224, which departs in
the initialisation only.
"""

from collections.abc import Sequence

from torch import nn

from ensemble.models.layers import FlatClassifier, initialise_he


def alexnet(
    num_classes: int,
    *,
    widths: Sequence[int],
    stem_kernel: int,
    stem_stride: int,
    hidden: int,
    pooled_side: int,
) -> nn.Module:
    """Build an AlexNet.

    Args:
        num_classes: Number of classes of the head.
        widths: Channels of the five convolutions; the last four must be even.
        stem_kernel: Side of the first convolution, in pixels.
        stem_stride: Stride of the first convolution, in pixels.
        hidden: Units of each of the two hidden layers.
        pooled_side: Side of the feature map that the hidden layers read.
    """
    first, second, third, fourth, fifth = widths
    features = nn.Sequential(
        nn.Conv2d(3, first, stem_kernel, stride=stem_stride, padding=stem_kernel // 2),
        nn.ReLU(),
        _response_norm(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(first, second, 5, padding=2, groups=2),
        nn.ReLU(),
        _response_norm(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(second, third, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(third, fourth, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(fourth, fifth, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
    )
    network = FlatClassifier(features, fifth, num_classes, pooled_side=pooled_side, hidden=hidden)
    initialise_he(network)
    return network


def _response_norm() -> nn.LocalResponseNorm:
    # PyTorch divides alpha by the number of channels summed (5); the paper's 1e-4 is not divided.
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
