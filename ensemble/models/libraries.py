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

    names = models.list_models(module=models)
    if name not in names:
        raise _unknown("torchvision", name, names)
    has_auxiliary = name in WITH_AUXILIARY_HEADS
    kwargs = {"aux_logits": False, "init_weights": False} if has_auxiliary else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    return network


def _of_timm(name: str, num_classes: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    network: nn.Module = timm.create_model(name, num_classes=num_classes)
    return network


def _of_factory(function: str, num_classes: int) -> nn.Module:
    network = call_factory(function)
    head = cast(nn.Linear, network.get_submodule(find_head(network)))
    if head.out_features == num_classes:
        return network
    return restrict_head(network, range(num_classes))
