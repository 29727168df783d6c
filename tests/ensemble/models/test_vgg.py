"""VGG's configurations against torchvision's, their layers against the paper's table, and the start from A."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.load import load_member
from ensemble.members.settings import Preprocessing
from ensemble.members.source_settings import TakeConfig
from ensemble.models import registry as models
from ensemble.models.vgg import CONFIGURATIONS
from ensemble.training.start import put_start
from ensemble.training.task import Start
from ensemble.views.settings import CenterView

LIBRARY = {
    "A": "torchvision/vgg11",
    "A-LRN": "torchvision/vgg11",
    "B": "torchvision/vgg13",
    "C": "vgg_c",
    "D": "torchvision/vgg16",
    "E": "torchvision/vgg19",
}


def weighted(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def layers(network: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(module.weight.shape) for module in weighted(network)]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_layers_are_those_of_the_library(configuration: str) -> None:
    with torch.device("meta"):
        ours = models.build(f"vgg_a_lrn:configuration={configuration}", 1000)
        theirs = models.build(LIBRARY[configuration], 1000)
    assert layers(ours) == layers(theirs)


def test_only_a_lrn_normalises_and_after_its_first_convolution() -> None:
    network = models.build("vgg_small:configuration=A-LRN", 10)
    kinds = [type(m).__name__ for m in network.features]  # type: ignore[union-attr]
    assert kinds[:3] == ["Conv2d", "ReLU", "LocalResponseNorm"]
    assert kinds.count("LocalResponseNorm") == 1
    assert "LocalResponseNorm" not in [
        type(m).__name__ for m in models.build("vgg_small", 10).modules()
    ]


def test_weights_start_as_published() -> None:
    network = models.build("vgg_small:initialisation=paper", 10)
    for module in weighted(network):
        assert float(module.weight.detach().std()) == pytest.approx(0.01, rel=0.15)
        assert module.bias is not None
        assert not module.bias.any()


@pytest.mark.parametrize(
    ("configuration", "places"),
    # Where the first convolution of a block is, and both of the third.
    [("B", (0, 2, 4, 5)), ("C", (0, 2, 4, 5)), ("D", (0, 2, 4, 5)), ("E", (0, 2, 4, 5))],
)
def test_a_deeper_network_starts_from_the_first_four_convolutions_and_the_last_layers_of_a(
    configuration: str, places: tuple[int, ...], tmp_path: Path
) -> None:
    a = models.build("vgg_small", 10, seed=1)
    path = tmp_path / "a.safetensors"
    about = {
        "architecture": "vgg_small",
        "classes": str(list(range(10))),
        "head": "head",
        "parameters": "0",
        "preprocessing": Preprocessing(size=16, mean=(0.5,) * 3, std=(0.25,) * 3).model_dump_json(),
        "seed": "1",
        "task": "",
    }
    checkpoint.save(a, path, about)
    network = models.build(f"vgg_small:configuration={configuration}", 10, seed=2)
    fresh = [layer.weight.detach().clone() for layer in weighted(network)]
    weights = load_member("a", path, CenterView(), "d" * 64)
    put_start(network, Start(weights, TakeConfig(first=4, last=3)), "it", 10)
    mine, theirs = weighted(network), weighted(a)
    pairs = [*zip(places, theirs[:4], strict=True), *zip((-3, -2, -1), theirs[-3:], strict=True)]
    for place, source in pairs:
        layer = mine[place]
        assert torch.equal(layer.weight, source.weight)
        assert layer.bias is not None
        assert source.bias is not None
        assert torch.equal(layer.bias, source.bias)
    taken = {place % len(mine) for place, _ in pairs}
    assert len(taken) == 7
    for place in set(range(len(mine))) - taken:
        assert torch.equal(mine[place].weight, fresh[place])
