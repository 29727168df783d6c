"""The last linear layer of a classifier: where it is, and what of it belongs to some classes."""

import copy
from collections.abc import Sequence
from typing import cast

from torch import nn

from ensemble.errors import CheckpointError


def find_head(network: nn.Module, num_classes: int | None = None) -> str:
    """Return the qualified name of the last linear layer in registration order.

    Args:
        network: A classifier.
        num_classes: Only a layer with so many outputs counts; None takes any.

    Raises:
        CheckpointError: There is no such layer.
    """
    outputs: dict[str, int] = {
        name: module.out_features
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    }
    names = [name for name, count in outputs.items() if num_classes in (None, count)]
    if names:
        return names[-1]
    wanted = "" if num_classes is None else f" with {num_classes} outputs"
    found = ", ".join(f"{name} ({count})" for name, count in outputs.items()) or "none"
    raise CheckpointError(
        f"{type(network).__name__} has no nn.Linear{wanted}; linear layers found: {found}. "
        "Give a classifier that ends in a linear layer over its classes."
    )


def restrict_head(network: nn.Module, classes: Sequence[int]) -> nn.Module:
    """Copy a classifier and keep only the rows of its head that belong to some classes.

    Args:
        network: A classifier; left as it is.
        classes: Class indices; logit i of the copy is logit classes[i] of the network.

    Raises:
        CheckpointError: There is no head, or the classes are none, repeated or out of range.
    """
    name = find_head(network)
    restricted = copy.deepcopy(network)
    # The rows are taken in place: a new layer would draw weights from the global generator.
    head = cast(nn.Linear, restricted.get_submodule(name))
    rows = _check_classes(classes, head.out_features)
    head.out_features = len(rows)
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
