"""The depth of networks, held against what their papers say."""

import pytest
import torch
from torch import nn

from ensemble.inference.depth import count_depth
from ensemble.models import registry as models


def depth(architecture: str, size: int, classes: int = 1000) -> int | None:
    with torch.device("meta"):
        network = models.build(architecture, classes)
    return count_depth(network.eval(), size)


@pytest.mark.parametrize(
    ("architecture", "size", "layers"),
    [
        ("torchvision/alexnet", 224, 8),
        ("torchvision/vgg16", 224, 16),
        ("torchvision/googlenet", 224, 22),
        ("torchvision/resnet18", 224, 18),
        ("torchvision/resnet152", 224, 152),
        ("torchvision/densenet121", 224, 121),
        # The patches, four in each of twelve blocks, and the head.
        ("torchvision/vit_b_16", 224, 1 + 12 * 4 + 1),
        ("resnet14_small", 16, 14),
        ("pyramidnet20", 32, 20),
    ],
)
def test_the_depth_is_that_of_the_paper(architecture: str, size: int, layers: int) -> None:
    assert depth(architecture, size) == layers


class Branches(nn.Module):
    """Two layers beside one, a product without weights, and one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
        self.short = nn.Conv2d(3, 4, 1)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.head = nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        joined = self.long(images) + self.short(images) * self.scale
        flat = joined.mean(dim=(2, 3))
        flat = (flat @ flat.transpose(0, 1)) * flat
        return self.head(self.head(flat))


def test_only_the_longest_path_counts_and_only_what_was_learnt() -> None:
    assert count_depth(Branches().eval(), 4) == 4


def test_a_network_without_weights_has_no_depth() -> None:
    assert count_depth(nn.Flatten(), 4) is None
