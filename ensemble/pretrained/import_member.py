"""The one way from a source to a checkpoint of ours: fetched, checked, read, its outputs put in order.

The checkpoint is kept by content. What reads it later, a host or a notebook, needs neither the source
nor a network.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import cast

import torch
from pydantic import ValidationError
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints import programs
from ensemble.checkpoints.header import checkpoint_name, read_metadata
from ensemble.checkpoints.load import check_trust
from ensemble.checkpoints.state_dict import put, read_state
from ensemble.config import S3_SCHEME
from ensemble.errors import CheckpointError, ConfigError
from ensemble.files import sha256_of
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import MemberConfig, Preprocessing, PreprocessingConfig
from ensemble.members.source_settings import (
    CheckpointSource,
    FactorySource,
    HubSource,
    ImportedSource,
    OnnxSource,
    Pt2Source,
    RecipeSource,
    TimmSource,
    TorchvisionSource,
    WeightsConfig,
)
from ensemble.models import registry as models
from ensemble.models.heads import find_head, restrict_head
from ensemble.models.libraries import call_factory
from ensemble.pretrained.description import Described
from ensemble.pretrained.label_map import output_rows

# Part of the key of what is kept: raise it when the same source is to give another checkpoint.
_VERSION = 1
# A number of classes that no hidden layer has as its width.
_NO_WIDTH = 997


def describe(config: MemberConfig, weights: WeightsConfig) -> Described:
    """What is known of a member before its weights are there; only a hub's config.json is fetched.

    Raises:
        UnknownNameError: A library does not know the name.
        CheckpointError: The source cannot be described, or is not trusted.
    """
    match config.source:
        case CheckpointSource(path=path) as source if path.startswith(S3_SCHEME):
            if source.architecture is None:
                raise CheckpointError(
                    f"the checkpoint {path} of member {config.name!r} is not on this machine, and only its "
                    "header says what it is. Set the source's `architecture`, or copy the file here."
                )
            check_trust(f"the source of {config.name!r}", source.architecture, weights.trust_code)
            return Described(source.architecture, file=path, sha256=source.sha256)
        case RecipeSource(architecture=architecture):
            return Described(architecture)
        case TorchvisionSource() as source:
            from ensemble.pretrained import torchvision_weights

            return torchvision_weights.describe(source)
        case TimmSource() as source:
            from ensemble.pretrained import timm_weights

            return timm_weights.describe(source)
        case HubSource() as source:
            from ensemble.pretrained import timm_weights

            return timm_weights.describe_hub(source, weights)
        case CheckpointSource(architecture=None) as source:
            return _describe_own(config.name, source, weights)
        case FactorySource(function=function):
            architecture = f"factory/{function}"
            check_trust(f"the source of {config.name!r}", architecture, weights.trust_code)
            return Described(architecture)
        case CheckpointSource() | Pt2Source() | OnnxSource() as source:
            architecture = getattr(source, "architecture", None) or source.kind
            check_trust(f"the source of {config.name!r}", architecture, weights.trust_code)
            return Described(architecture, file=Path(source.path), sha256=source.sha256)
        case ImportedSource():
            raise CheckpointError(
                f"the predictions of {config.name!r} were imported: there is no network."
            )


def import_member(
    config: MemberConfig, classes: Sequence[str], weights: WeightsConfig, folder: Path
) -> Path:
    """The checkpoint of a member that is not trained here; made once, then kept by content.

    Args:
        config: Whose source is anything but a recipe.
        classes: Names of the data's classes; output i of the checkpoint stands for class i.
        weights: Where to look, and what to trust.
        folder: Where checkpoints are kept.

    Raises:
        ConfigError: A setting of the member does not fit its weights or the classes.
        CheckpointError: The weights are not to be had, cannot be read, or are of another network.
    """
    described = describe(config, weights)
    file = described.fetch(weights)
    is_own = isinstance(config.source, CheckpointSource) and config.source.architecture is None
    if is_own and file and config.preprocessing is None and config.label_map is None:
        return file
    asked = {
        "version": _VERSION,
        "architecture": described.architecture,
        "classes": list(classes),
        "preprocessing": merge_preprocessing(config, described).model_dump(mode="json"),
        "label_map": _content(config.label_map),
        "libraries": library_versions(described.architecture),
    }
    if file is not None:
        path = folder / checkpoint_name(
            described.architecture, fingerprint(asked | {"file": sha256_of(file)})
        )
        if path.is_file():
            return path
    imported, metadata = _read(config, described, file, classes)
    if file is None:  # only the weights themselves say which they are
        path = folder / checkpoint_name(
            described.architecture, fingerprint(asked | {"weights": _digest(imported)})
        )
    checkpoint.save_weights(imported, path, metadata)
    return path


def _read(
    config: MemberConfig, described: Described, file: Path | None, classes: Sequence[str]
) -> tuple[checkpoint.Weights, dict[str, str]]:
    preprocessing = merge_preprocessing(config, described)
    metadata = {
        "classes": json.dumps(list(range(len(classes)))),
        "preprocessing": preprocessing.model_dump_json(),
    }
    if described.architecture in programs.KINDS:
        assert file is not None
        program = programs.open_program(described.architecture, file.read_bytes())
        num_outputs, program.is_probability = programs.examine(
            program, preprocessing.size, f"{file} of {config.name!r}"
        )
        rows = output_rows(config.name, config.label_map, num_outputs, classes)
        program.outputs = () if rows == tuple(range(num_outputs)) else rows
        metadata |= programs.to_metadata(described.architecture, program)
        return {"program": program.program}, metadata
    network, num_outputs = _network(config, described, file)
    rows = output_rows(config.name, config.label_map, num_outputs, classes)
    if rows != tuple(range(num_outputs)):
        network = restrict_head(network, rows)
    metadata |= {
        "architecture": described.architecture,
        "head": _head(network, len(classes)),
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
    }
    return network.state_dict(), metadata


def _network(
    config: MemberConfig, described: Described, file: Path | None
) -> tuple[nn.Module, int]:
    """The network with its weights, and how many outputs it has."""
    library, _, name = described.architecture.partition("/")
    if file is None:
        network = call_factory(name)
        return network, _head_layer(network).out_features
    if isinstance(config.source, CheckpointSource) and config.source.architecture is None:
        num_outputs = len(json.loads(read_metadata(file)["classes"]))
        return checkpoint.load_network(file, described.architecture, num_outputs), num_outputs
    state = read_state(file)
    num_outputs = described.num_outputs or _count_outputs(described.architecture, state)
    if library == "timm":
        from ensemble.pretrained import timm_weights

        return timm_weights.load(name, num_outputs, state, file), num_outputs
    network = models.build(described.architecture, num_outputs)
    return put(
        network, state, file, f"{described.architecture} with {num_outputs} outputs"
    ), num_outputs


def _count_outputs(architecture: str, state: checkpoint.Weights) -> int:
    """How many outputs some weights are of, by the rows of the last layer."""
    with torch.device("meta"):
        network = models.build(architecture, _NO_WIDTH)
    names = [name for name, tensor in network.named_parameters() if len(tensor) == _NO_WIDTH]
    rows = state.get(names[-1]) if names else None
    # Where there is no such tensor, the fit is refused later, with the names that are there.
    return len(rows) if rows is not None else _NO_WIDTH


def _head(network: nn.Module, num_classes: int) -> str:
    """Name of the last linear layer; empty where there is none, as in a SqueezeNet."""
    try:
        return find_head(network, num_classes)
    except CheckpointError:
        return ""


def _head_layer(network: nn.Module) -> nn.Linear:
    return cast(nn.Linear, network.get_submodule(find_head(network)))


def _describe_own(name: str, source: CheckpointSource, weights: WeightsConfig) -> Described:
    try:
        metadata = read_metadata(Path(source.path))
        preprocessing = Preprocessing.model_validate_json(metadata["preprocessing"])
        num_outputs = len(json.loads(metadata["classes"]))
        architecture = metadata["architecture"]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"the checkpoint {source.path} of member {name!r} does not say what it is ({error!r}). "
            "Give a file that this project wrote."
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Weights from elsewhere need `architecture`, as timm/resnet50."
        ) from error
    check_trust(f"the checkpoint {source.path}", architecture, weights.trust_code)
    return Described(architecture, num_outputs, preprocessing, Path(source.path), source.sha256)


def known_preprocessing(config: MemberConfig, described: Described) -> Preprocessing | None:
    """As `merge_preprocessing`; none where something is said by neither."""
    try:
        return merge_preprocessing(config, described)
    except ConfigError:
        return None


def merge_preprocessing(config: MemberConfig, described: Described) -> Preprocessing:
    """The preprocessing that comes with the weights, with what the config says of it on top.

    Raises:
        ConfigError: Something is said by neither.
    """
    said = config.preprocessing or PreprocessingConfig()
    known = described.preprocessing.model_dump() if described.preprocessing else {}
    # A resize of null is something to say: stretch.
    merged = known | {name: getattr(said, name) for name in said.model_fields_set}
    try:
        return Preprocessing.model_validate(merged)
    except ValidationError as error:
        missing = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise ConfigError(
            f"the preprocessing of {config.name!r} lacks {missing}: no such figure comes with its weights. "
            "Set preprocessing: {size: 224, resize: 256, mean: [...], std: [...], interpolation: bilinear}."
        ) from error


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
