"""Build networks of torchvision and timm by name, and networks of functions that a user wrote.

The networks are built to predict: the auxiliary heads of GoogLeNet and Inception v3 are left out, and so is
torchvision's `transform_input`, which is a normalisation and belongs to the preprocessing.
"""

import difflib
import importlib
from collections.abc import Sequence
from typing import cast

from torch import nn

from ensemble.errors import CheckpointError, UnknownNameError
from ensemble.models.heads import find_head, restrict_head

# Side of the input that torchvision builds its vision transformers for if nothing else is said.
_TORCHVISION_SIZE = 224

# Joins the name of a network and the side of its input, where the network is built for one size.
SIZE_MARK = "@"

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build_from(library: str, name: str, num_classes: int) -> nn.Module:
    """Build a network of a library with fresh weights.

    Args:
        library: Name of the library: torchvision, timm or factory.
        name: Name of the network in the library; package.module:function for a factory.
        num_classes: Number of logits; a factory's network keeps the first `num_classes` of its own.

    Raises:
        UnknownNameError: The library has no architecture of that name.
        CheckpointError: The function cannot be imported, or does not return a classifier with enough
            logits.
    """
    build = {"torchvision": _of_torchvision, "timm": _of_timm, "factory": _of_factory}[library]
    return build(name, num_classes)


def at_size(architecture: str, size: int) -> str:
    """Name an architecture that is built for one size of input at that size; any other stays as it is.

    A vision transformer has an embedding for each place of the input, so its weights are of one size.

    Args:
        architecture: Name with its library, as torchvision/vit_b_16 or timm/vit_base_patch16_224.
        size: Side of the input, in pixels.
    """
    library, _, name = architecture.partition("/")
    if SIZE_MARK in name:
        return architecture
    if library == "torchvision" and name.startswith("vit_") and size != _TORCHVISION_SIZE:
        return f"{architecture}{SIZE_MARK}{size}"
    if library == "timm":
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(name, allow_unregistered=True)
        if config and config.fixed_input_size and config.input_size[-1] != size:
            return f"{architecture}{SIZE_MARK}{size}"
    return architecture


def find_in_libraries(name: str) -> list[str]:
    """Find the names that a network has in libraries, with the library: torchvision's before timm's."""
    import timm
    from torchvision import models

    names = {"torchvision": models.list_models(module=models), "timm": timm.list_models()}
    return [f"{library}/{name}" for library, known in names.items() if name in known]


def call_factory(function: str) -> nn.Module:
    """Call a function, and return its network in evaluation mode.

    Raises:
        CheckpointError: The function cannot be imported, or does not return an `nn.Module`.
    """
    module, _, name = function.partition(":")
    try:
        network = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"the factory {function!r} cannot be imported: {error}. Expected package.module:function "
            "that every process can import; install the package that has it."
        ) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(
            f"the factory {function!r} returned {type(network).__name__}; expected an nn.Module."
        )
    return network.eval()


def _unknown(library: str, name: str, names: Sequence[str]) -> UnknownNameError:
    # A library has more than a thousand names, so the message lists the nearest ones only.
    near = difflib.get_close_matches(name, names, n=8, cutoff=0.4) or names[:8]
    return UnknownNameError.of(f"{library} architecture", name, near)


def _of_torchvision(name: str, num_classes: int) -> nn.Module:
    from torchvision import models

    name, size = split_size(name)
    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names)
    has_auxiliary = name in WITH_AUXILIARY_HEADS
    kwargs: dict[str, int] = {"aux_logits": False, "init_weights": False} if has_auxiliary else {}
    if size is not None:
        kwargs["image_size"] = size
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    return network


def _of_timm(name: str, num_classes: int) -> nn.Module:
    import timm

    name, size = split_size(name)
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    kwargs = {} if size is None else {"img_size": size}
    network: nn.Module = timm.create_model(name, num_classes=num_classes, **kwargs)
    return network


def split_size(name: str) -> tuple[str, int | None]:
    """Split the name of a network and the side of the input that it is built for; none if it has no mark.

    Raises:
        UnknownNameError: The size is not a number.
    """
    name, mark, size = name.partition(SIZE_MARK)
    if mark and not size.isdecimal():
        raise UnknownNameError(
            f"no size {size!r} of {name!r}; expected {name}{SIZE_MARK}384, the side of the input in pixels."
        )
    return name, int(size) if mark else None


def _of_factory(function: str, num_classes: int) -> nn.Module:
    network = call_factory(function)
    head = cast(nn.Linear, network.get_submodule(find_head(network)))
    if head.out_features == num_classes:
        return network
    return restrict_head(network, range(num_classes))
