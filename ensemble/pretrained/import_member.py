"""The way from a source to a checkpoint: weights are fetched, checked and read, outputs put in order.

The checkpoint is kept by content. What reads it later, a worker or a notebook, needs neither the
source nor an internet connection.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints import programs
from ensemble.checkpoints.header import checkpoint_name, read_metadata
from ensemble.checkpoints.state_dict import put, read_state
from ensemble.errors import CheckpointError
from ensemble.files import sha256_of
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import CheckpointSource, WeightsConfig
from ensemble.models import registry as models
from ensemble.models.heads import find_head, restrict_head
from ensemble.models.libraries import call_factory
from ensemble.pretrained.describe_member import describe, merge_preprocessing
from ensemble.pretrained.description import Description
from ensemble.pretrained.label_map import output_rows

# Part of the key of what is kept: raise it when the same source is to give another checkpoint.
_VERSION = 1
# A number of classes that no hidden layer has as its width.
_NO_WIDTH = 997


def import_member(
    config: MemberConfig, classes: Sequence[str], weights: WeightsConfig, folder: Path
) -> Path:
    """Make the checkpoint of a member that no run trains, once; then it is found by content.

    Args:
        config: The member; its source is anything but a recipe.
        classes: Names of the data's classes; output i of the checkpoint stands for class i.
        weights: Where published weights are looked for, and what is trusted.
        folder: Folder in which checkpoints are kept.

    Raises:
        ConfigError: A setting of the member does not fit its weights or the classes.
        CheckpointError: The weights cannot be fetched or read, or are of another network.
    """
    description = describe(config, weights)
    file = description.fetch(weights)
    is_own = isinstance(config.source, CheckpointSource) and config.source.architecture is None
    if is_own and file and config.preprocessing is None and config.label_map is None:
        return file
    identity = {
        "version": _VERSION,
        "architecture": description.architecture,
        "classes": list(classes),
        "preprocessing": merge_preprocessing(config, description).model_dump(mode="json"),
        "label_map": _content(config.label_map),
        "libraries": library_versions(description.architecture),
    }
    if file is not None:
        path = folder / checkpoint_name(
            description.architecture, fingerprint(identity | {"file": sha256_of(file)})
        )
        if path.is_file():
            return path
    imported, metadata = _read(config, description, file, classes)
    if file is None:  # only the weights themselves say which they are
        path = folder / checkpoint_name(
            description.architecture, fingerprint(identity | {"weights": _digest(imported)})
        )
    checkpoint.save_weights(imported, path, metadata)
    return path


def _read(
    config: MemberConfig, description: Description, file: Path | None, classes: Sequence[str]
) -> tuple[checkpoint.Weights, dict[str, str]]:
    preprocessing = merge_preprocessing(config, description)
    metadata = {
        "classes": json.dumps(list(range(len(classes)))),
        "preprocessing": preprocessing.model_dump_json(),
    }
    if description.architecture in programs.KINDS:
        assert file is not None
        program = programs.open_program(description.architecture, file.read_bytes())
        num_outputs, program.is_probability = programs.examine(
            program, preprocessing.size, f"{file} of {config.name!r}"
        )
        rows = output_rows(config.name, config.label_map, num_outputs, classes)
        program.outputs = () if rows == tuple(range(num_outputs)) else rows
        metadata |= programs.to_metadata(description.architecture, program)
        return {"program": program.program}, metadata
    network, num_outputs = _network(config, description, file)
    rows = output_rows(config.name, config.label_map, num_outputs, classes)
    if rows != tuple(range(num_outputs)):
        network = restrict_head(network, rows)
    metadata |= {
        "architecture": description.architecture,
        "head": _head(network, len(classes)),
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
    }
    return network.state_dict(), metadata


def _network(
    config: MemberConfig, description: Description, file: Path | None
) -> tuple[nn.Module, int]:
    """Build the network with its weights, and count its outputs."""
    library, _, name = description.architecture.partition("/")
    if file is None:
        network = call_factory(name)
        return network, _head_layer(network).out_features
    if isinstance(config.source, CheckpointSource) and config.source.architecture is None:
        num_outputs = len(json.loads(read_metadata(file)["classes"]))
        return checkpoint.load_network(file, description.architecture, num_outputs), num_outputs
    state = read_state(file)
    num_outputs = description.num_outputs or _count_outputs(description.architecture, state)
    if library == "timm":
        from ensemble.pretrained import timm_weights

        return timm_weights.load(name, num_outputs, state, file), num_outputs
    network = models.build(description.architecture, num_outputs)
    return put(
        network, state, file, f"{description.architecture} with {num_outputs} outputs"
    ), num_outputs


def _count_outputs(architecture: str, state: checkpoint.Weights) -> int:
    """Count the outputs that weights are of, by the rows of the last layer."""
    with torch.device("meta"):
        network = models.build(architecture, _NO_WIDTH)
    names = [name for name, tensor in network.named_parameters() if len(tensor) == _NO_WIDTH]
    rows = state.get(names[-1]) if names else None
    # Where there is no such tensor, the fit is refused later, with the names that are there.
    return len(rows) if rows is not None else _NO_WIDTH


def _head(network: nn.Module, num_classes: int) -> str:
    """Find the name of the last linear layer; empty where there is none, as in a SqueezeNet."""
    try:
        return find_head(network, num_classes)
    except CheckpointError:
        return ""


def _head_layer(network: nn.Module) -> nn.Linear:
    return cast(nn.Linear, network.get_submodule(find_head(network)))


def _content(label_map: str | Path | None) -> str | None:
    if not isinstance(label_map, Path):
        return label_map
    # A file that is not there is reported where it is read.
    return sha256_of(label_map) if label_map.is_file() else str(label_map)


def _digest(weights: checkpoint.Weights) -> str:
    digest = sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{list(tensor.shape)}{tensor.dtype}".encode())
        digest.update(
            tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
