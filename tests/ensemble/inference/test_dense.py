"""Dense evaluation against its definition: the head at every window of the feature map, averaged."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from ensemble.errors import ConfigError
from ensemble.inference.dense import to_dense
from ensemble.members.source_settings import WeightsConfig
from ensemble.models import registry as models
from ensemble.pretrained.describe_member import describe
from jobs.pools import load_pool

Head = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def by(layer: str) -> Head:
    """The head that begins with a layer of the pooled rows."""
    return lambda net, rows: net.get_submodule(layer)(rows.flatten(1))


# What of a network comes before its pool over the map, the pool's grid, and what comes after it.
# One of each kind of head; the large ones, all of both pools among them, run at night.
HEADS: dict[str, tuple[str, int, Head]] = {
    "torchvision/alexnet": ("features", 6, by("classifier")),
    "torchvision/vgg11": ("features", 7, by("classifier")),
    "torchvision/resnet18": ("layer4", 1, by("fc")),
    "torchvision/googlenet": ("inception5b", 1, by("fc")),
    "torchvision/mobilenet_v2": ("features", 1, by("classifier")),
    "torchvision/mobilenet_v3_small": ("features", 1, by("classifier")),
    "torchvision/efficientnet_b0": ("features", 1, by("classifier")),
    "torchvision/squeezenet1_1": ("classifier.2", 1, lambda net, rows: rows.flatten(1)),
}
AT_NIGHT: dict[str, tuple[str, int, Head]] = {
    "alexnet": ("features", 6, lambda net, rows: net.head(net.hidden(rows.flatten(1)))),
    "vgg_c": ("features", 7, by("classifier")),
    "torchvision/vgg16": ("features", 7, by("classifier")),
    "torchvision/vgg16_bn": ("features", 7, by("classifier")),
    **{f"torchvision/resnet{depth}": ("layer4", 1, by("fc")) for depth in (50, 101, 152)},
    **{f"resnet{depth}": ("layer4", 1, by("fc")) for depth in (200, 212, 224)},
    "torchvision/inception_v3": ("Mixed_7c", 1, by("fc")),
    "timm/inception_resnet_v2": ("conv2d_7b", 1, by("classif")),
    "timm/resnetv2_101": ("norm", 1, lambda net, rows: net.head.fc(rows).flatten(1)),
    "timm/resnet152": ("layer4", 1, by("fc")),
    "timm/resnet200d": ("layer4", 1, by("fc")),
    "timm/resnetrs101": ("layer4", 1, by("fc")),
    "timm/resnetrs200": ("layer4", 1, by("fc")),
}


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def build(name: str) -> tuple[nn.Module, int]:
    """A network with random weights, and the size of its input."""
    size = 299 if "inception_" in name else 224
    return liven(models.build(name, 1000, seed=0), size), size


def liven(network: nn.Module, size: int) -> nn.Module:
    """Statistics of pictures and not of a fresh layer, so that logits differ from place to place.

    Of pictures, because with any others numbers would grow beyond float32 in 150 layers.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of what was seen
    if norms:
        with torch.no_grad():
            network.train()(pictures(2, size, size))
    return network.eval()


def defined(features: torch.Tensor, side: int, grid: int, head: object) -> torch.Tensor:
    """Mean over all positions of what the head says of the pooled window."""
    height, width = features.shape[2:]
    logits = [
        head(nn.functional.adaptive_avg_pool2d(features[..., y : y + side, x : x + side], grid))
        for y in range(height - side + 1)
        for x in range(width - side + 1)
    ]
    return torch.stack(logits).mean(dim=0)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(models.SMALL))
def test_small_architecture_is_dense_by_the_definition(name: str) -> None:
    network = liven(models.build(name, 10, seed=1), 16)
    dense = to_dense(network, 16)
    images, small = pictures(2, 33, 49), pictures(2, 16, 16)
    with torch.inference_mode():
        close(dense(small), network(small))
        features, side = network.features(images), network.features(small).shape[2]
        if hasattr(network, "hidden"):
            grid, head = (
                network.pool.output_size,
                lambda r: network.head(network.hidden(r.flatten(1))),
            )
        else:
            grid, head = 1, lambda r: network.head(r.flatten(1))
        assert features.shape[2] > side
        close(dense(images), defined(features, side, grid, head))


@pytest.mark.parametrize(
    "name", [*HEADS, *(pytest.param(name, marks=pytest.mark.nightly) for name in AT_NIGHT)]
)
def test_full_size_architecture_is_dense_by_the_definition(name: str) -> None:
    network, size = build(name)
    before, grid, head = (HEADS | AT_NIGHT)[name]
    seen: list[torch.Tensor] = []
    network.get_submodule(before).register_forward_hook(lambda m, a, output: seen.append(output))
    dense = to_dense(network, size)
    small, images = pictures(1, size, size), pictures(1, size + 6, size + 46)
    with torch.inference_mode():
        plain, expected_side = network(small), seen[-1].shape[2]
        close(dense(small), plain)
        found = dense(images)
        features = seen[-1]
        assert features.shape[3] > expected_side
        close(found, defined(features, expected_side, grid, lambda rows: head(network, rows)))


@pytest.mark.parametrize("pool", ["imagenet13", "imagenet13-public"])
def test_every_architecture_of_the_shipped_pools_is_held_to_the_definition(pool: str) -> None:
    names = {describe(member, WeightsConfig()).architecture for member in load_pool(pool)}
    assert names <= {*HEADS, *AT_NIGHT}


class Unpadded(nn.Module):
    """Two convolutions and a pool without padding: stride 4, and a 4 x 4 map of a 21 x 21 image."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Conv2d(8, 12, 1)
        )
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.relu(self.features(images)))


FLAT = (nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(192, 9), nn.ReLU(), nn.Linear(9, 5))
POOLED = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


@pytest.mark.parametrize("head", [POOLED, FLAT], ids=["pooled", "flat"])
def test_without_padding_dense_is_the_mean_over_crops_at_the_stride(
    head: tuple[nn.Module, ...],
) -> None:
    network = Unpadded(nn.Sequential(*head)).eval()
    images = pictures(3, 29, 37)
    assert network.features(images[..., :21, :21]).shape[2:] == (4, 4)
    with torch.inference_mode():
        crops = [
            network(images[..., y : y + 21, x : x + 21])
            for y in range(0, 29 - 21 + 1, 4)
            for x in range(0, 37 - 21 + 1, 4)
        ]
        assert len(crops) == 3 * 5
        close(to_dense(network, 21)(images), torch.stack(crops).mean(dim=0))


def test_with_padding_windows_are_not_crops() -> None:
    network = liven(models.build("resnet14_small", 10, seed=1), 16)
    images = pictures(1, 20, 20)
    with torch.inference_mode():
        crops = [network(images[..., y : y + 16, x : x + 16]) for y in (0, 4) for x in (0, 4)]
        difference = to_dense(network, 16)(images) - torch.stack(crops).mean(dim=0)
    assert float(difference.abs().max()) > 1e-3


def test_network_stays_as_it_is_and_its_weights_are_shared() -> None:
    network = models.build("vgg11_small", 10, seed=1).eval()
    before = copy.deepcopy(network.state_dict())
    dense = to_dense(network, 16)
    images = pictures(1, 40, 40)
    with torch.inference_mode():
        plain, first = network(images[..., :16, :16]), dense(images)
        assert torch.equal(network(images[..., :16, :16]), plain)
        assert all(
            torch.equal(a, b)
            for a, b in zip(before.values(), network.state_dict().values(), strict=True)
        )
        network.head.weight.zero_()
        network.head.bias.zero_()
        assert not torch.equal(first, torch.zeros(1, 10))
        assert torch.equal(dense(images), torch.zeros(1, 10))


def test_network_without_a_pooled_map_is_refused() -> None:
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=1).eval()
    with pytest.raises(ConfigError, match=r"VisionTransformer cannot be made dense: .* ten_crop\."):
        to_dense(network, 224)


class Squeezed(nn.Module):
    """Squeeze-and-excitation, and then all of the map flattened into the head: no pool to widen."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head((images * images.mean((2, 3), keepdim=True).sigmoid()).flatten(1))


def test_pool_beside_the_map_is_not_taken_for_the_heads() -> None:
    with pytest.raises(ConfigError, match="Squeezed cannot be made dense"):
        to_dense(Squeezed().eval(), 8)


def test_image_smaller_than_the_input_is_refused() -> None:
    dense = to_dense(models.build("resnet14_small", 10).eval(), 16)
    with pytest.raises(ConfigError, match=r"15 x 40 pixels is smaller than .* 16 x 16\. Set short"):
        dense(pictures(1, 15, 40))
