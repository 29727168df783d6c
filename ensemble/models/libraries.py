"""Networks of torchvision and timm by name, and of functions that a user wrote.

Built for predicting: the auxiliary heads of GoogLeNet and Inception v3 are left out, and so is
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
        library: torchvision, timm or factory.
        name: What the library calls it; of a factory, package.module:function.
        num_classes: Number of logits; of a factory's network, the first so many are kept.

    Raises:
        UnknownNameError: The library has no such architecture.
        CheckpointError: The function cannot be called, or returns no such network.
    """
    build = {"torchvision": _of_torchvision, "timm": _of_timm, "factory": _of_factory}[library]
    return build(name, num_classes)


def call_factory(function: str) -> nn.Module:
    """The network that a function returns, in evaluation mode. Runs the function's code.

    Raises:
        CheckpointError: It cannot be imported, or does not return an `nn.Module`.
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
    # Of more than a thousand names, only the near ones.
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
