"""Weights on disk: one safetensors file, published whole or not at all, and checked when it is read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import nn

from ensemble.checkpoints import programs
from ensemble.checkpoints.header import check_digest, make_header, parse, with_digest
from ensemble.checkpoints.scores import Scores, give_logits
from ensemble.errors import CheckpointError
from ensemble.files import make_folder, partial_file, publish
from ensemble.models import registry as models

Weights = dict[str, torch.Tensor]

# Endings of the names of buffers that no sound network has NaN or infinity in.
_STATISTICS = ("running_mean", "running_var")


def save(network: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Publish the weights of a network; equal weights and metadata give equal bytes.

    Args:
        network: The network, on any device; its parameters and buffers are written.
        path: Where the file appears, complete; its folder is made where there is none.
        metadata: Metadata for the header: architecture, num_classes, head, seed and so on.
    """
    save_weights(network.state_dict(), path, metadata)


def save_weights(weights: Weights, path: Path, metadata: Mapping[str, str]) -> None:
    """Publish tensors by name as `save` does; the arguments are the same."""
    weights = {
        # clone: safetensors refuses tensors that share memory.
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in weights.items()
    }
    content = safetensors.torch.save(weights, make_header(metadata))
    make_folder(path.parent)
    with partial_file(path.parent) as file:
        for part in with_digest(content):
            file.write(part)
        publish(file, path)


def load(path: Path) -> tuple[Weights, dict[str, str]]:
    """Read weights and metadata onto the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or not written by this project.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}). "
            "Check the path, or train the member again."
        ) from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path}: {_size(path)} that are not a whole safetensors file ({error}). "
            "The file is truncated or of another format: copy it again or train the member again."
        ) from error
    metadata = parse(path, header)
    check_digest(path)
    return weights, metadata


def load_network(path: Path, architecture: str, num_classes: int) -> nn.Module:
    """Build a network, load its weights and set it to evaluation mode.

    Args:
        path: A checkpoint written by `save`.
        architecture: A name for `models.build`, or the kind of a program.
        num_classes: Number of logits.

    Raises:
        CheckpointError: The file is unreadable, or belongs to another network.
        UnknownNameError: No architecture has that name.
    """
    is_program = architecture in programs.KINDS
    if not is_program:
        models.check(architecture)
    weights, metadata = load(path)
    trained_as = metadata.get("architecture", architecture)
    if trained_as != architecture:
        raise CheckpointError(
            f"{path}: the weights are of {trained_as!r}, but {architecture!r} was asked for. "
            "Correct the member's architecture or its checkpoint."
        )
    if is_program:
        return programs.from_checkpoint(architecture, weights, metadata, path)
    network = models.build(architecture, num_classes)
    check_fit(path, weights, network.state_dict(), f"{architecture} with {num_classes} classes")
    network.load_state_dict(weights)
    check_finite(path, network)
    return give_logits(network.eval(), scores_of(metadata))


def scores_of(metadata: Mapping[str, str]) -> Scores:
    """Tell by the metadata of a checkpoint what its network gives: logits, if nothing else is said."""
    return cast(Scores, metadata.get("scores", "logits"))


def check_fit(path: Path, weights: Weights, expected: Weights, what: str) -> None:
    """Refuse weights that do not fit a network, tensor by tensor.

    Raises:
        CheckpointError: A tensor is missing, not expected, or of another shape.
    """
    missing, surplus = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or surplus:
        raise CheckpointError(
            f"{path}: {len(weights)} tensors do not fit {what} ({len(expected)} tensors): "
            f"missing {_some(missing)}; not expected {_some(surplus)}. "
            "Give the architecture that the weights were trained with."
        )
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {list(weights[name].shape)}, but {what} needs "
                f"{list(tensor.shape)}. Give the number of classes and the architecture that the "
                "weights were trained with."
            )
    check_kinds(path, weights, expected)


def check_kinds(path: Path, weights: Weights, expected: Weights) -> None:
    """Refuse integers where a network has floats: torch would take them for weights without a word.

    Raises:
        CheckpointError: A tensor is not of a floating-point type, and the network's is.
    """
    for name in sorted(weights):
        # A library may rename a tensor when it loads it; one of this name is of floats in any network.
        needs_floats = (
            expected[name].is_floating_point()
            if name in expected
            else name.endswith((".weight", ".bias", *_STATISTICS))
        )
        if needs_floats and not weights[name].is_floating_point():
            raise CheckpointError(
                f"{path}: {name} holds {_kind(weights[name])}, and the network needs floats. Weights that "
                "were quantised mean nothing without their scales: give the weights from before, or an "
                "ONNX graph."
            )


def check_finite(path: Path | str, network: nn.Module) -> None:
    """Refuse a network whose parameters, or statistics of batch normalisation, are not numbers.

    Raises:
        CheckpointError: NaN or infinity is among them; the first tensor is named.
    """
    statistics = (
        (name, tensor) for name, tensor in network.named_buffers() if name.endswith(_STATISTICS)
    )
    broken = {
        name: tensor
        for name, tensor in (*network.named_parameters(), *statistics)
        if not tensor.isfinite().all()
    }
    if broken:
        name, tensor = next(iter(broken.items()))
        raise CheckpointError(
            f"NaN or infinity in the weights {path}: in {len(broken)} tensors, as in "
            f"{int((~tensor.isfinite()).sum())} of {tensor.numel()} numbers of {name}. Expected finite "
            "weights: the training diverged or the file was damaged. Give weights of an earlier epoch, or "
            "leave the member out."
        )


def _kind(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return (", ".join(ordered[:3]) or "none") + more


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"
