"""The way from a source to a checkpoint: weights are fetched, checked and read, outputs put in order.

The checkpoint is kept by content. What reads it later, a worker or a notebook, needs neither the
source nor an internet connection.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints import programs
from ensemble.checkpoints.header import checkpoint_name, is_whole, read_metadata
from ensemble.checkpoints.scores import NOTES
from ensemble.checkpoints.state_dict import digest_state, put, read_state, select_network
from ensemble.errors import CheckpointError
from ensemble.files import sha256_of
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import MemberConfig, PreprocessingConfig
from ensemble.members.source_settings import AnyStart, CheckpointSource, WeightsConfig
from ensemble.models import registry as models
from ensemble.models.heads import find_head, restrict_head
from ensemble.models.libraries import at_size, call_factory
from ensemble.pretrained.describe_member import describe, describe_start, merge_preprocessing
from ensemble.pretrained.description import Description
from ensemble.pretrained.label_map import output_rows

# Part of the key of what is kept: raise it when the same source is to give another checkpoint.
_VERSION = 3
# A number of classes that no hidden layer has as its width.
_NO_WIDTH = 997


def import_member(
    config: MemberConfig,
    classes: Sequence[str] | None,
    weights: WeightsConfig,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Make the checkpoint of a member that no run trains, once; then it is found by content.

    Args:
        config: The member; its source is anything but a recipe.
        classes: Names of the data's classes; output i of the checkpoint stands for class i. None keeps
            all outputs, as a training of other classes starts from.
        weights: Where published weights are looked for, and what is trusted.
        folder: Folder in which checkpoints are kept.
        say: Takes a line where a kept checkpoint is damaged and made again.

    Raises:
        ConfigError: A setting of the member does not fit its weights or the classes.
        CheckpointError: The weights cannot be fetched or read, or are of another network.
    """
    description = describe(config, weights)
    file = description.fetch(weights)
    is_own = isinstance(config.source, CheckpointSource) and config.source.architecture is None
    if is_own and file and config.preprocessing is None and config.label_map is None:
        num_outputs = len(json.loads(read_metadata(file)["classes"]))
        checkpoint.load_network(file, description.architecture, num_outputs)  # or say why it cannot
        return file
    preprocessing = merge_preprocessing(config, description)
    if not is_own:  # whose weights are of the size that its header says
        architecture = at_size(description.architecture, preprocessing.size)
        description = replace(description, architecture=architecture)
    identity = {
        "version": _VERSION,
        "architecture": description.architecture,
        "classes": None if classes is None else list(classes),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "label_map": _content(config.label_map),
        "libraries": library_versions(description.architecture),
    }
    if file is not None:
        path = folder / checkpoint_name(
            description.architecture, fingerprint(identity | {"file": digest_state(file)})
        )
        if path.is_file():
            if is_whole(path):
                return path
            say(f"{path} is damaged and is made again from {file}")
    imported, metadata = _read(config, description, file, classes)
    if file is None:  # only the weights themselves say which they are
        path = folder / checkpoint_name(
            description.architecture, fingerprint(identity | {"weights": _digest(imported)})
        )
    checkpoint.save_weights(imported, path, metadata)
    return path


def import_start(
    name: str,
    source: AnyStart,
    preprocessing: PreprocessingConfig | None,
    weights: WeightsConfig,
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Make the checkpoint of weights that a training starts from, with all outputs that they have.

    Args:
        name: Name of the member that is trained, for messages.
        source: Where the weights come from.
        preprocessing: What differs from the preprocessing that comes with the weights.
        weights: Where published weights are looked for, and what is trusted.
        folder: Folder in which checkpoints are kept.
        say: Takes a line where a kept checkpoint is damaged and made again.

    Raises:
        ConfigError: The preprocessing lacks a figure.
        CheckpointError: The weights cannot be fetched or read.
    """
    member = MemberConfig.model_construct(name=name, source=source, preprocessing=preprocessing)
    return import_member(member, None, weights, folder, say)


def examine_member(
    config: MemberConfig, classes: Sequence[str], weights: WeightsConfig
) -> str | None:
    """Check all that `import_member` does, and keep nothing.

    Args:
        config: The member; its source is anything but a recipe.
        classes: Names of the data's classes.
        weights: Where published weights are looked for, and what is trusted.

    Returns:
        Name of the last linear layer; empty where the network has none. None where the weights are not
        on this machine, so that only what is known without them was checked.

    Raises:
        ConfigError: A setting of the member does not fit its weights or the classes.
        CheckpointError: The weights cannot be read, or are of another network.
    """
    description = describe(config, weights)
    merge_preprocessing(config, description)
    is_elsewhere = isinstance(description.file, str) or not description.is_present(weights)
    if is_elsewhere and not isinstance(description.file, Path):
        if description.num_outputs is not None:
            output_rows(config.name, config.label_map, description.num_outputs, classes)
        return None
    _, metadata = _read(config, description, description.fetch(weights), classes)
    return metadata.get("head", "")


def examine_start(
    name: str, source: AnyStart, preprocessing: PreprocessingConfig | None, weights: WeightsConfig
) -> Description:
    """Check all that `import_start` does where the weights are on this machine, and keep nothing.

    The arguments are those of `import_start`.

    Raises:
        ConfigError: The preprocessing lacks a figure.
        CheckpointError: The weights cannot be read, or are of another network.
    """
    description = describe_start(name, source, preprocessing, weights)
    is_elsewhere = isinstance(description.file, str) or not description.is_present(weights)
    if isinstance(description.file, Path) or not is_elsewhere:
        member = MemberConfig.model_construct(name=name, source=source, preprocessing=preprocessing)
        _read(member, description, description.fetch(weights), None)
    return description


def _read(
    config: MemberConfig,
    description: Description,
    file: Path | None,
    classes: Sequence[str] | None,
) -> tuple[checkpoint.Weights, dict[str, str]]:
    preprocessing = merge_preprocessing(config, description)
    is_own = isinstance(config.source, CheckpointSource) and config.source.architecture is None
    metadata = {"preprocessing": preprocessing.model_dump_json()}
    if (
        is_own
        and file is not None
        and (scores := checkpoint.scores_of(read_metadata(file))) != "logits"
    ):
        metadata["scores"] = scores
    if description.architecture in programs.KINDS:
        assert file is not None
        program = _open_program(description.architecture, file, is_own)
        num_outputs, scores = programs.examine(
            program, preprocessing.size, f"{file} of {config.name!r}"
        )
        if not is_own:  # else it gives logits already
            program.scores = scores
        metadata |= _notes([NOTES[program.scores]] if program.scores in NOTES else [])
        rows = _rows(config, num_outputs, classes)
        metadata["classes"] = json.dumps(list(range(len(rows))))
        if rows != tuple(range(num_outputs)):
            outputs = program.outputs or range(num_outputs)
            program.outputs = tuple(outputs[row] for row in rows)
        metadata |= programs.to_metadata(description.architecture, program)
        return {"program": program.program}, metadata
    network, num_outputs, notes = _network(config, description, file)
    checkpoint.check_finite(file or description.architecture, network)
    if file is None:
        what = f"the network of {description.architecture} of {config.name!r}"
        _, scores = programs.examine(network, preprocessing.size, what)
        if scores != "logits":
            metadata["scores"] = scores
            notes.append(NOTES[scores])
    metadata |= _notes(notes)
    rows = _rows(config, num_outputs, classes)
    if rows != tuple(range(num_outputs)):
        network = restrict_head(network, rows)
    metadata |= {
        "architecture": description.architecture,
        "classes": json.dumps(list(range(len(rows)))),
        "head": _head(network, len(rows)),
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
    }
    return network.state_dict(), metadata


def _rows(config: MemberConfig, num_outputs: int, classes: Sequence[str] | None) -> tuple[int, ...]:
    if classes is None:
        return tuple(range(num_outputs))
    return output_rows(config.name, config.label_map, num_outputs, classes)


def _open_program(kind: str, file: Path, is_own: bool) -> programs.Program:
    """Open a program from its own file, or from a checkpoint that an earlier import kept it in."""
    if is_own:
        num_outputs = len(json.loads(read_metadata(file)["classes"]))
        return cast(programs.Program, checkpoint.load_network(file, kind, num_outputs))
    return programs.open_program(kind, file.read_bytes())


def _network(
    config: MemberConfig, description: Description, file: Path | None
) -> tuple[nn.Module, int, list[str]]:
    """Build the network with its weights, count its outputs, and note what is not as in the file."""
    architecture = description.architecture
    library, _, name = architecture.partition("/")
    if file is None:
        network = call_factory(name)
        return network, _head_layer(network).out_features, []
    if isinstance(config.source, CheckpointSource) and config.source.architecture is None:
        num_outputs = len(json.loads(read_metadata(file)["classes"]))
        return checkpoint.load_network(file, architecture, num_outputs), num_outputs, []
    with torch.device("meta"):
        expected = models.build(architecture, _NO_WIDTH)
    state, ignored = select_network(read_state(file), expected.state_dict().keys())
    checkpoint.check_kinds(file, state, expected.state_dict())
    num_outputs = description.num_outputs or _count_outputs(expected, state)
    notes = [f"tensors of the file that were ignored: {_some(ignored)}"] if ignored else []
    if library == "timm":
        from ensemble.pretrained import timm_weights

        network = timm_weights.load(name, num_outputs, state, file)
        return network, num_outputs, notes + _resampled(network, state)
    network = models.build(architecture, num_outputs)
    what = (
        f"{architecture} with {num_outputs} outputs" if num_outputs != _NO_WIDTH else architecture
    )
    return put(network, state, file, what), num_outputs, notes


def _count_outputs(network: nn.Module, state: checkpoint.Weights) -> int:
    """Count the outputs that weights are of, by the rows of the last layer.

    Args:
        network: The network with `_NO_WIDTH` outputs.
        state: The weights.
    """
    names = [name for name, tensor in network.named_parameters() if len(tensor) == _NO_WIDTH]
    rows = state.get(names[-1]) if names else None
    # Where there is no such tensor, the fit is refused later, with the names that are there.
    return len(rows) if rows is not None and rows.ndim else _NO_WIDTH


def _resampled(network: nn.Module, state: checkpoint.Weights) -> list[str]:
    """Note the embeddings that timm resampled, as it does where weights are of another size of input."""
    return [
        f"{name} was resampled from {list(state[name].shape)} to {list(tensor.shape)}, because the "
        "weights are of another size of input"
        for name, tensor in network.state_dict().items()
        if name.endswith("pos_embed") and name in state and state[name].shape != tensor.shape
    ]


def _notes(notes: Sequence[str]) -> dict[str, str]:
    """Give what a person should know of an import, as metadata; nothing where all is as usual."""
    return {"notes": json.dumps(notes)} if notes else {}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
