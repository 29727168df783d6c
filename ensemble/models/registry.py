"""The architectures by name, and the one function that builds a network. Imports torch only to build."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.models import options

if TYPE_CHECKING:
    import torch.nn


@dataclass(frozen=True)
class Architecture:
    """How to build one network, and what is known about it without building it."""

    module: str
    """Module in `ensemble.models` that has the factory; its docstring lists the departures from the paper."""
    factory: str
    """Name of the function that takes the number of classes and `kwargs`, and returns the network."""
    paper: str
    """Authors and year of the paper."""
    parameters: int
    """Number of trainable parameters with `classes` classes."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the factory that make this variant of the family."""
    classes: int = 10
    """Number of classes that the network was published for."""
    size: int = 32
    """Side of the input that the network was published for, in pixels; it takes other sizes too."""


SMALL: dict[str, Architecture] = {
    "alexnet_small": Architecture(
        module="alexnet",
        factory="alexnet",
        paper="Krizhevsky et al. 2012",
        parameters=100_426,
        kwargs={
            "widths": (24, 48, 64, 64, 48),
            "stem_kernel": 5,
            "stem_stride": 1,
            "stem_padding": 2,
            "hidden": 128,
            "pooled_side": 1,
        },
    ),
    "densenet_small": Architecture(
        module="densenet",
        factory="densenet",
        paper="Huang et al. 2016",
        parameters=71_686,
        kwargs={"blocks": (3, 3, 3), "growth": 12},
    ),
    "googlenet_small": Architecture(
        module="googlenet",
        factory="googlenet",
        paper="Szegedy et al. 2014",
        parameters=35_636,
        kwargs={
            "groups": (("3a",), ("4a", "4b"), ("5b",)),
            "width": 0.125,
            "dropout": 0.2,
        },
    ),
    "inception_resnet_small": Architecture(
        module="inception_resnet",
        factory="inception_resnet",
        paper="Szegedy et al. 2016",
        parameters=207_338,
        kwargs={"modules": (1, 1, 1), "long_kernel": 3, "width": 0.125, "dropout": 0.1},
    ),
    "inception_v3_small": Architecture(
        module="inception",
        factory="inception_v3",
        paper="Szegedy et al. 2015",
        parameters=139_942,
        kwargs={
            "projections": (32,),
            "middles": (128,),
            "num_coarse": 1,
            "long_kernel": 3,
            "width": 0.125,
            "dropout": 0.5,
        },
    ),
    "mobilenet_v2_small": Architecture(
        module="mobilenet",
        factory="mobilenet_v2",
        paper="Sandler et al. 2018",
        parameters=25_298,
        kwargs={
            "stem": 16,
            "stages": ((1, 12, 1, 1), (4, 16, 2, 2), (4, 32, 2, 2)),
            "last": 128,
        },
    ),
    "pyramidnet20": Architecture(
        module="pyramidnet",
        factory="pyramidnet",
        paper="Han et al. 2016",
        parameters=143_133,
        kwargs={"depth": 20, "alpha": 24.0, "is_bottleneck": False},
    ),
    "resnet14_small": Architecture(
        module="resnet",
        factory="resnet",
        paper="He et al. 2015",
        parameters=175_258,
        kwargs={"blocks": (2, 2, 2), "width": 16, "is_bottleneck": False},
    ),
    "resnet20_cifar": Architecture(
        module="resnet",
        factory="resnet",
        paper="He et al. 2015",
        parameters=272_474,
        kwargs={"blocks": (3, 3, 3), "width": 16, "is_bottleneck": False},
    ),
    "resnet20_bottleneck_small": Architecture(
        module="resnet",
        factory="resnet",
        paper="He et al. 2015",
        parameters=56_754,
        kwargs={"blocks": (2, 2, 2), "width": 8, "is_bottleneck": True},
    ),
    "vgg11_small": Architecture(
        module="vgg",
        factory="vgg",
        paper="Simonyan, Zisserman 2014",
        parameters=395_802,
        kwargs={
            "layout": (16, 32, "pool", 64, 64, "pool", 96, 96, "pool", 96, 96, "pool"),
            "hidden": 128,
            "pooled_side": 1,
        },
    ),
    "vgg_small": Architecture(
        module="vgg",
        factory="published_vgg",
        paper="Simonyan, Zisserman 2014",
        parameters=170_682,
        kwargs={
            "configuration": "A",
            "width": 0.125,
            "hidden": 128,
            "pooled_side": 1,
            "has_first_pool": False,
        },
    ),
    "wide_resnet10_2": Architecture(
        module="wide_resnet",
        factory="wide_resnet",
        paper="Zagoruyko, Komodakis 2016",
        parameters=303_706,
        kwargs={"depth": 10, "widen": 2, "dropout": 0.0},
    ),
    "wide_resnet16_2": Architecture(
        module="wide_resnet",
        factory="wide_resnet",
        paper="Zagoruyko, Komodakis 2016",
        parameters=691_674,
        kwargs={"depth": 16, "widen": 2, "dropout": 0.0},
    ),
}


FULL_SIZE: dict[str, Architecture] = {
    "airbench94": Architecture(
        module="airbench",
        factory="airbench",
        paper="Jordan 2024",
        parameters=1_972_504,
        kwargs={"widths": (64, 256, 256)},
    ),
    "alexnet": Architecture(
        module="alexnet",
        factory="alexnet",
        paper="Krizhevsky et al. 2012",
        parameters=60_965_224,
        kwargs={
            "widths": (96, 256, 384, 384, 256),
            "stem_kernel": 11,
            "stem_stride": 4,
            "stem_padding": 2,
            "hidden": 4096,
            "pooled_side": 6,
            "dropout_of": "outputs",
            "initialisation": "paper",
        },
        classes=1000,
        size=224,
    ),
    "pyramidnet110_a48": Architecture(
        module="pyramidnet",
        factory="pyramidnet",
        paper="Han et al. 2016",
        parameters=1_772_706,
        kwargs={"depth": 110, "alpha": 48.0, "is_bottleneck": False},
    ),
    "pyramidnet196_a48": Architecture(
        module="pyramidnet",
        factory="pyramidnet",
        paper="Han et al. 2016",
        parameters=1_996_512,
        kwargs={"depth": 196, "alpha": 48.0, "is_bottleneck": True},
    ),
    **{
        f"pyramidnet{depth}_a{alpha:g}_bottleneck": Architecture(
            module="pyramidnet",
            factory="pyramidnet",
            paper="Han et al. 2016",
            parameters=parameters,
            kwargs={"depth": depth, "alpha": alpha, "is_bottleneck": True},
        )
        for depth, alpha, parameters in (
            (110, 4.75, 222_884),
            (110, 48.0, 1_153_458),
            (128, 64.0, 1_970_726),
            (164, 48.0, 1_715_442),
        )
    },
    "resnet110_cifar": Architecture(
        module="resnet",
        factory="resnet",
        paper="He et al. 2015",
        parameters=1_730_714,
        kwargs={"blocks": (18, 18, 18), "width": 16, "is_bottleneck": False},
    ),
    **{
        f"resnet{depth}": Architecture(
            module="full_size",
            factory="imagenet_resnet",
            paper="He et al. 2015",
            parameters=parameters,
            kwargs={"blocks": (3, 24, units, 3)},
            classes=1000,
            size=224,
        )
        for depth, units, parameters in (
            (200, 36, 64_673_832),
            (212, 40, 69_142_568),
            (224, 44, 73_611_304),
        )
    },
    "vgg_a_lrn": Architecture(
        module="vgg",
        factory="published_vgg",
        paper="Simonyan, Zisserman 2014",
        parameters=132_863_336,
        kwargs={
            "configuration": "A-LRN",
            "width": 1.0,
            "hidden": 4096,
            "pooled_side": 7,
            "has_first_pool": True,
        },
        classes=1000,
        size=224,
    ),
    "vgg_c": Architecture(
        module="full_size",
        factory="imagenet_vgg",
        paper="Simonyan, Zisserman 2014",
        parameters=133_638_952,
        kwargs={
            "layout": (
                *((64, 3), (64, 3), None),
                *((128, 3), (128, 3), None),
                *((256, 3), (256, 3), (256, 1), None),
                *((512, 3), (512, 3), (512, 1), None),
                *((512, 3), (512, 3), (512, 1), None),
            )
        },
        classes=1000,
        size=224,
    ),
    "wide_resnet28_10": Architecture(
        module="wide_resnet",
        factory="wide_resnet",
        paper="Zagoruyko, Komodakis 2016",
        parameters=36_479_194,
        kwargs={"depth": 28, "widen": 10, "dropout": 0.0},
    ),
}


ARCHITECTURES = SMALL | FULL_SIZE


# Their networks are named as torchvision/resnet50; a user's as factory/package.module:function.
LIBRARIES = ("factory", "timm", "torchvision")


def known() -> list[str]:
    """List the names of all architectures of this package, sorted."""
    return sorted(ARCHITECTURES)


def check(name: str) -> None:
    """Refuse a name that is not an architecture; torch is imported only to say what was meant.

    A name within a library is checked by `build`, because that takes an import of the library.

    Raises:
        UnknownNameError: There is no architecture of that name.
        ConfigError: It does not take the options behind its name.
    """
    architecture, text = options.split_name(name)
    if name.partition("/")[0] in LIBRARIES:
        return
    if architecture in ARCHITECTURES:
        options.parse(text, ARCHITECTURES[architecture].factory, name)
        return
    name = architecture
    # Only here: the import takes a second or more.
    from ensemble.models.libraries import find_in_libraries

    if not (near := find_in_libraries(name)):
        raise UnknownNameError.of("architecture", name, ARCHITECTURES)
    raise UnknownNameError(
        f"no architecture {name!r}. Did you mean {near[0]!r}? Names of a library begin with it, as "
        f"{', '.join(near)}. Known without one: {', '.join(known())}."
    )


def build(architecture: str, num_classes: int, seed: int = 0) -> "torch.nn.Module":
    """Build a network with fresh weights, the same for the same arguments.

    Args:
        architecture: A name from `known()`, with options if there are any, or one of a library.
        num_classes: Number of logits per image.
        seed: Seed of the weights; the global generator is left as it was.

    Returns:
        A network on the CPU from float images [image, 3, height, width] to logits [image, class],
        whose last layer is an `nn.Linear` (in libraries, mostly).

    Raises:
        UnknownNameError: There is no architecture of that name.
        ConfigError: `num_classes` is less than 1, or an option does not fit.
    """
    import torch

    check(architecture)
    if num_classes < 1:
        raise ConfigError(f"{architecture} with {num_classes} classes: give at least 1.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(architecture, num_classes)


def _build(architecture: str, num_classes: int) -> "torch.nn.Module":
    library, slash, name = architecture.partition("/")
    if slash:
        from ensemble.models.libraries import build_from

        return build_from(library, name, num_classes)
    own, text = options.split_name(architecture)
    entry = ARCHITECTURES[own]
    factory = getattr(importlib.import_module(f"ensemble.models.{entry.module}"), entry.factory)
    network: torch.nn.Module = factory(
        num_classes, **(dict(entry.kwargs) | options.parse(text, entry.factory, architecture))
    )
    return network
