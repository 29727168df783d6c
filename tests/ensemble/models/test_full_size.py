"""Parameter counts against published figures; networks are built without memory for their weights."""

import importlib

import pytest
import timm
import torch
from torch import nn

from ensemble.models import registry as models

META = torch.device("meta")


def build(name: str, num_classes: int) -> nn.Module:
    with META:
        return models.build(name, num_classes).eval()


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", sorted(models.FULL_SIZE))
def test_full_size_network_has_its_parameters_and_takes_its_input(name: str) -> None:
    entry = models.FULL_SIZE[name]
    network = build(name, entry.classes)
    document = importlib.import_module(f"ensemble.models.{entry.module}").__doc__ or ""
    assert count(network) == entry.parameters
    assert f"`{name}` {entry.parameters:,}" in document
    logits = network(torch.empty(2, 3, entry.size, entry.size, device=META))
    assert logits.shape == (2, entry.classes)


# In millions; the source of each figure beside it.
PUBLISHED = {
    "torchvision/alexnet": (61.10, 1000),  # torchvision's page of weights; so all of torchvision's
    "alexnet": (60.97, 1000),  # Krizhevsky et al. 2012: "60 million"
    "torchvision/vgg11": (132.86, 1000),  # Simonyan, Zisserman 2014, Table 2, A: 133
    "torchvision/vgg13": (133.05, 1000),  # B: 133
    "vgg_c": (133.64, 1000),  # C: 134
    "torchvision/vgg16": (138.36, 1000),  # D: 138
    "torchvision/vgg19": (143.67, 1000),  # E: 144
    "torchvision/googlenet": (6.62, 1000),
    "torchvision/resnet50": (25.56, 1000),
    "torchvision/resnet101": (44.55, 1000),
    "torchvision/resnet152": (60.19, 1000),
    "resnet200": (64.67, 1000),  # timm's results-imagenet.csv has 64.69 for its variant D
    "timm/resnet200d": (64.69, 1000),
    "timm/resnetv2_101": (44.54, 1000),
    "timm/resnetrs101": (63.62, 1000),
    "timm/resnetrs200": (93.21, 1000),
    "torchvision/inception_v3": (23.83, 1000),  # without its auxiliary head; 27.16 with it
    "timm/inception_resnet_v2": (55.84, 1000),
    "wide_resnet28_10": (36.48, 10),  # Zagoruyko, Komodakis 2016, Table 4: 36.5
    # A study of PyramidNets within 2 M parameters: 0.22, 1.15, 1.97, 1.72 and 2.00.
    "pyramidnet110_a4.75_bottleneck": (0.22, 10),
    "pyramidnet110_a48_bottleneck": (1.15, 10),
    "pyramidnet128_a64_bottleneck": (1.97, 10),
    "pyramidnet164_a48_bottleneck": (1.72, 10),
    "resnet110_cifar": (1.73, 10),  # He et al. 2015, Table 6: 1.7, with option A
    "pyramidnet196_a48": (2.00, 10),  # P4: 1.9, and at most 2
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    millions, num_classes = PUBLISHED[name]
    assert count(build(name, num_classes)) / 1e6 == pytest.approx(millions, abs=0.006)


def test_resnet200_is_as_large_as_the_one_of_timm() -> None:
    with META:
        expected = count(timm.create_model("resnet200"))
    assert models.FULL_SIZE["resnet200"].parameters == expected


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet200", 200), ("resnet212", 212), ("resnet224", 224)]
)
def test_depth_of_a_resnet_is_that_of_its_name(name: str, depth: int) -> None:
    convolutions = [
        module
        for path, module in build(name, 10).named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in path
    ]
    assert len(convolutions) == depth


@pytest.mark.parametrize("name", ["torchvision/resnet99", "timm/resnet99"])
def test_library_that_does_not_know_a_name_shows_the_near_ones(name: str) -> None:
    with pytest.raises(models.UnknownNameError, match=r"architecture 'resnet99'.*resnet"):
        models.build(name, 10)
