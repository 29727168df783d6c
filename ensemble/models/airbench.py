"""A network that learns CIFAR-10 in seconds on a GPU: Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU".

Kept: a first convolution of 2x2 whose fixed weights whiten the images' patches, with a trained bias; three blocks of
two 3x3 convolutions with a pool after the first; convolutions that start as the identity as far as they can (dirac);
normalisations with a fixed scale of 1 whose statistics follow the last batches; GELU; the greatest value over all
positions; logits divided by 9.

Departures: none in the network. Recipes here have one rate for all weights, where the author's biases have 64 times it.

The whitening weights are those of the images that the network is trained on: `ensemble.training.loop.fit` measures them
where they are not there yet.

Parameters at 10 classes: `airbench94` 1,972,504.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ensemble.models.layers import FeatureMaps, Images, Logits

_KERNEL = 2
_EPSILON = 5e-4
_LOGIT_SCALE = 1 / 9
# The author's momentum of 0.6 is that of the running mean: torch's is of the new value.
_MOMENTUM, _NORM_EPSILON = 0.4, 1e-12


class Whitening(nn.Module):
    """A convolution to the principal components of patches, each with variance 1, and to their negatives."""

    def __init__(self) -> None:
        super().__init__()
        components = 3 * _KERNEL**2
        # A buffer, so that no optimiser changes it.
        self.register_buffer("weight", torch.zeros(2 * components, 3, _KERNEL, _KERNEL))
        self.weight: torch.Tensor
        self.bias = nn.Parameter(torch.zeros(2 * components))

    @property
    def is_measured(self) -> bool:
        """Whether the weights are there."""
        return bool(self.weight.any())

    def measure(self, images: Float[torch.Tensor, "image 3 height width"]) -> None:
        """Set the weights by normalised training images."""
        patches = functional.unfold(images, _KERNEL).transpose(1, 2).flatten(0, 1).double()
        covariance = patches.T @ patches / len(patches)
        variances, components = torch.linalg.eigh(covariance)
        whitening = (components / (variances + _EPSILON).sqrt()).T.view(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([whitening, -whitening]))

    def forward(self, images: Images) -> FeatureMaps:
        """Whiten images."""
        return functional.conv2d(images, self.weight, self.bias)


class AirbenchNetwork(nn.Module):
    """Whitening, three blocks, the greatest value over positions, and a linear layer without bias."""

    def __init__(self, num_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.whitening = Whitening()
        channels = len(self.whitening.bias)
        blocks = []
        for width in widths:
            blocks.append(_block(channels, width))
            channels = width
        self.features = nn.Sequential(nn.GELU(), *blocks)
        self.head = nn.Linear(channels, num_classes, bias=False)

    def forward(self, images: Images) -> Logits:
        """Classify normalised images."""
        features: torch.Tensor = self.features(self.whitening(images))
        logits: torch.Tensor = self.head(features.amax(dim=(2, 3)))
        return logits * _LOGIT_SCALE


def airbench(num_classes: int, *, widths: tuple[int, ...]) -> nn.Module:
    """Build the network.

    Args:
        num_classes: Number of classes of the head.
        widths: Channels of each block, which halves height and width.
    """
    return AirbenchNetwork(num_classes, tuple(widths))


def _block(in_channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        _dirac_conv(in_channels, width),
        nn.MaxPool2d(2),
        _norm(width),
        nn.GELU(),
        _dirac_conv(width, width),
        _norm(width),
        nn.GELU(),
    )


def _dirac_conv(in_channels: int, width: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:in_channels])
    return layer


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, eps=_NORM_EPSILON, momentum=_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
