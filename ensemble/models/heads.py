"""Find the last linear layer of a classifier, and restrict it to some of the classes.

A 1x1 convolution counts as a linear layer in a network that ends in one.
"""

import copy
from collections.abc import Sequence
from typing import cast

from torch import nn

from ensemble.errors import CheckpointError

# Name of the attribute that holds the number of outputs, by kind of head.
_OUTPUTS: dict[type[nn.Module], str] = {nn.Linear: "out_features", nn.Conv2d: "out_channels"}


def find_head(network: nn.Module, num_classes: int | None = None) -> str:
    """Return the qualified name of the last linear layer in registration order.

    A 1x1 convolution counts where no linear layer does.

    Args:
        network: A classifier.
        num_classes: Number of outputs that the layer must have; None takes any.

    Raises:
        CheckpointError: The network has no linear layer or 1x1 convolution with `num_classes` outputs.
    """
    modules = list(network.named_modules())
    outputs = {name: part.out_features for name, part in modules if isinstance(part, nn.Linear)}
    convolutions = {
        name: part.out_channels
        for name, part in modules
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1
    }
    for layers in (outputs, convolutions):
        names = [name for name, count in layers.items() if num_classes in (None, count)]
        if names:
            return names[-1]
    outputs_text = "" if num_classes is None else f" with {num_classes} outputs"
    linear_layers = ", ".join(f"{name} ({count})" for name, count in outputs.items()) or "none"
    raise CheckpointError(
        f"{type(network).__name__} has no nn.Linear or 1x1 convolution{outputs_text}; linear layers "
        f"found: {linear_layers}. Give a classifier that ends in a linear layer over its classes."
    )


def restrict_head(network: nn.Module, classes: Sequence[int]) -> nn.Module:
    """Copy a classifier, with only the rows of its head that belong to some classes.

    Args:
        network: A classifier, which is not changed.
        classes: Indices of the classes; logit i of the copy is logit classes[i] of the network.

    Raises:
        CheckpointError: The network has no head, or `classes` is empty, repeats a class or has one out
            of range.
    """
    name = find_head(network)
    restricted = copy.deepcopy(network)
    # The rows are taken in place: a new layer would draw weights from the global generator.
    head = restricted.get_submodule(name)
    rows = _check_classes(classes, cast(int, getattr(head, _OUTPUTS[type(head)])))
    setattr(head, _OUTPUTS[type(head)], len(rows))
    for parameter in head.parameters():
        parameter.data = parameter.data[rows]
    return restricted


def _check_classes(classes: Sequence[int], num_classes: int) -> list[int]:
    rows = [int(c) for c in classes]
    if not rows or len(set(rows)) < len(rows) or min(rows) < 0 or max(rows) >= num_classes:
        raise CheckpointError(
            f"cannot restrict a head of {num_classes} classes to {rows}; "
            f"give one or more different class indices from 0 to {num_classes - 1}."
        )
    return rows
