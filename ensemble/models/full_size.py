"""The papers' networks at full size, where neither torchvision nor timm has them, or not as published.

Everything else is `torchvision/NAME` or `timm/NAME`: torchvision's AlexNet is the one-GPU variant of
2014 (61.1 M), and its VGGs A, B, D and E are the published ones.

Departures: `vgg_c` has torchvision's layers and dropout; `resnet200`, `resnet212` and `resnet224` are
torchvision's bottleneck ResNets (stride at the 3x3, as in fb.resnet.torch) and not pre-activated. The
papers do not say how 212 and 224 layers are divided: the third stage is extended from ResNet-200's
[3, 24, 36, 3] to 40 and 44 units, 3 x 70 + 2 and 3 x 74 + 2 layers.

Parameters at 1,000 classes: `resnet200` 64,673,832, `resnet212` 69,142,568, `resnet224` 73,611,304,
`vgg_c` 133,638,952.
"""

from collections.abc import Sequence

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import VGG

from ensemble.models.layers import initialise_he


def imagenet_resnet(num_classes: int, *, blocks: Sequence[int]) -> nn.Module:
    """Build a bottleneck ResNet for 224x224 pixels.

    Args:
        num_classes: Number of classes of the head.
        blocks: Units in each of the four stages.
    """
    return ResNet(Bottleneck, list(blocks), num_classes=num_classes)


def imagenet_vgg(num_classes: int, *, layout: Sequence[tuple[int, int] | None]) -> nn.Module:
    """Build a VGG network for 224x224 pixels, without batch normalisation.

    Args:
        num_classes: Number of classes of the head.
        layout: Channels and kernel side of each convolution; None stands for a 2x2 max pool.
    """
    layers: list[nn.Module] = []
    channels = 3
    for entry in layout:
        if entry is None:
            layers.append(nn.MaxPool2d(2))
        else:
            out_channels, kernel = entry
            layers += [nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2), nn.ReLU()]
            channels = out_channels
    network = VGG(nn.Sequential(*layers), num_classes=num_classes, init_weights=False)
    initialise_he(network)
    return network
