"""Layers that several architectures share: the convolution unit, parallel branches, two classifiers.

A layer that only one family uses stays in that family's file.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ensemble.errors import UnknownNameError

Images = Float[torch.Tensor, "image 3 _ _"]
FeatureMaps = Float[torch.Tensor, "image _ _ _"]
Logits = Float[torch.Tensor, "image class"]


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    # With torch's slope of 0.01.
    "leaky_relu": nn.LeakyReLU,
    "selu": nn.SELU,
    "hardswish": nn.Hardswish,
}


def make_activation(name: str) -> nn.Module:
    """Make the function between layers that a name of `ensemble.models.options.ACTIVATIONS` stands for.

    Raises:
        UnknownNameError: There is no such function.
    """
    if name not in ACTIVATIONS:
        raise UnknownNameError.of("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def conv(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """Build a convolution without bias that keeps height and width at stride 1 (odd kernels)."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(
        in_channels,
        out_channels,
        (height, width),
        stride=stride,
        padding=(height // 2, width // 2),
        groups=groups,
        bias=False,
    )


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    activation: str = "relu",
) -> nn.Sequential:
    """Build convolution, batch normalisation, and ReLU or another activation."""
    return nn.Sequential(
        conv(in_channels, out_channels, kernel, stride),
        nn.BatchNorm2d(out_channels),
        make_activation(activation),
    )


class Branches(nn.Module):
    """Branches with one input, whose outputs are concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: FeatureMaps) -> FeatureMaps:
        """Apply the branches; they must agree in height and width."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)


class PooledClassifier(nn.Module):
    """Convolutional features, their mean over positions, and one linear layer.

    Images may have any size that leaves at least one position after the strides of `features`.
    """

    def __init__(
        self, features: nn.Module, num_features: int, num_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, images: Images) -> Logits:
        """Classify normalised images."""
        features: torch.Tensor = self.features(images)
        pooled = self.dropout(features.mean(dim=(2, 3)))
        # Up to a multiple of four: MKL's product for few classes rounds by a row's address, and
        # an image's logits must not depend on its place in a batch.
        padding = (0, -pooled.shape[1] % 4)
        weight = functional.pad(self.head.weight, padding)
        return functional.linear(functional.pad(pooled, padding), weight, self.head.bias)


class FlatClassifier(nn.Module):
    """Convolutional features on a fixed grid, then hidden fully connected layers with dropout.

    The head of AlexNet and VGG. Images of another size are averaged to the grid of `pooled_side`.
    """

    def __init__(
        self,
        features: nn.Module,
        num_channels: int,
        num_classes: int,
        *,
        pooled_side: int,
        hidden: int,
        activation: str = "relu",
        dropout_of: Literal["inputs", "outputs", "none"] = "inputs",
    ) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(pooled_side)
        # What is not there is an identity, so that layers have the same names either way.
        before, after = (
            nn.Dropout(0.5) if dropout_of == side else nn.Identity()
            for side in ("inputs", "outputs")
        )
        self.hidden = nn.Sequential(
            before,
            nn.Linear(num_channels * pooled_side**2, hidden),
            make_activation(activation),
            nn.Identity() if dropout_of == "none" else nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            make_activation(activation),
            after,
        )
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, images: Images) -> Logits:
        """Classify normalised images."""
        pooled: torch.Tensor = self.pool(self.features(images))
        logits: torch.Tensor = self.head(self.hidden(pooled.flatten(1)))
        return logits


def response_norm() -> nn.LocalResponseNorm:
    """Build the local response normalisation of Krizhevsky et al. 2012, section 3.3."""
    # PyTorch divides alpha by the number of channels summed (5); the paper's 1e-4 is not divided.
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def initialise_normal(network: nn.Module, deviation: float) -> None:
    """Draw weights from N(0, deviation) and set biases to 0, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_he(network: nn.Module) -> None:
    """Draw weights before a ReLU from He's normal distribution and set biases to 0, in place.

    Source: He et al. 2015, "Delving deep into rectifiers".
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
