"""AlexNet to the letter of its paper, and the switches of its ablations."""

import pytest
import torch
from torch import nn

from ensemble.models import registry as models
from ensemble.models.layers import FlatClassifier


def build(name: str) -> FlatClassifier:
    network = models.build(name, 10)
    assert isinstance(network, FlatClassifier)
    return network


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


def test_maps_have_the_sides_of_the_paper() -> None:
    with torch.device("meta"):
        network, images = build("alexnet"), torch.empty(1, 3, 224, 224)
        sides = []
        for layer in network.features:  # type: ignore[attr-defined]
            images = layer(images)
            sides.append(images.shape[-1])
    assert list(dict.fromkeys(sides)) == [55, 27, 13, 6]


@pytest.mark.parametrize("network", [build("alexnet:width=0.125")], ids=["paper"])
def test_weights_start_as_published(network: FlatClassifier) -> None:
    hidden = [m for m in network.hidden if isinstance(m, nn.Linear)]
    layers = [*convolutions(network), *hidden, network.head]
    biases = [0, 1, 0, 1, 1, 1, 1, 0]
    for layer, bias in zip(layers, biases, strict=True):
        assert layer.bias is not None
        assert bool((layer.bias == bias).all())
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
        assert abs(float(layer.weight.detach().mean())) < 0.001


def test_dropout_is_of_the_outputs_of_both_hidden_layers() -> None:
    with torch.device("meta"):
        kinds = [type(layer).__name__ for layer in build("alexnet").hidden]
    layer = ["Linear", "ReLU", "Dropout"]
    assert kinds == ["Identity", *layer, *layer]
    assert type(build("alexnet_small").hidden[0]) is nn.Dropout


def test_weights_have_the_same_names_wherever_dropout_acts() -> None:
    inputs, outputs, none = (
        list(build(f"alexnet_small:dropout_of={where}").state_dict())
        for where in ("inputs", "outputs", "none")
    )
    assert inputs == outputs == none
    plain = build("alexnet_small:dropout_of=none").modules()
    assert not any(isinstance(module, nn.Dropout) for module in plain)


def test_response_normalisation_is_the_formula_of_the_paper() -> None:
    (norm, _) = [m for m in build("alexnet_small").modules() if isinstance(m, nn.LocalResponseNorm)]
    maps = torch.randn(2, 7, 3, 3)
    expected = torch.empty_like(maps)
    for i in range(7):
        near = maps[:, max(0, i - 2) : min(6, i + 2) + 1]
        expected[:, i] = maps[:, i] / (2 + 1e-4 * near.square().sum(dim=1)) ** 0.75
    torch.testing.assert_close(norm(maps), expected)


def test_two_devices_that_meet_at_the_third_convolution_compute_the_network() -> None:
    """The grouping is the split over two GPUs: each half sees its own maps, but the third convolution all."""
    network = build("alexnet_small:has_lrn=false").eval()
    images = torch.rand(2, 3, 16, 16)
    halves = [images, images]
    for layer in network.features:  # type: ignore[attr-defined]
        if not isinstance(layer, nn.Conv2d):
            halves = [layer(half) for half in halves]
            continue
        weights, biases = layer.weight.chunk(2), layer.bias.chunk(2)  # type: ignore[union-attr]
        sees_all = layer.groups == 1 and layer.in_channels != 3
        inputs = [torch.cat(halves, dim=1)] * 2 if sees_all else halves
        halves = [
            nn.functional.conv2d(inputs[d], weights[d], biases[d], layer.stride, layer.padding)
            for d in range(2)
        ]
    torch.testing.assert_close(torch.cat(halves, dim=1), network.features(images))


def test_the_switches_of_the_ablations_change_what_they_say() -> None:
    assert [c.groups for c in convolutions(build("alexnet_small"))] == [1, 2, 1, 2, 2]
    assert [c.groups for c in convolutions(build("alexnet_small:groups=1"))] == [1] * 5
    half = [c.out_channels for c in convolutions(build("alexnet_small:width=0.5"))]
    assert half == [12, 24, 32, 32, 24]
    for without, left in ((3, 4), (4, 4), (5, 4), (0, 5)):
        network = build(f"alexnet_small:without={without}")
        assert len(convolutions(network)) == left
        assert network(torch.rand(2, 3, 16, 16)).shape == (2, 10)
    plain = build("alexnet_small:has_lrn=false")
    assert not any(isinstance(m, nn.LocalResponseNorm) for m in plain.modules())
    pools = [m for m in build("alexnet_small:pool=2").modules() if isinstance(m, nn.MaxPool2d)]
    assert [pool.kernel_size for pool in pools] == [2, 2, 2]
    for side in (16, 32):
        assert build("alexnet_small:pool=2")(torch.rand(1, 3, side, side)).shape == (1, 10)
