"""Which architecture a file of weights belongs to, told by the names and shapes of its tensors."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints import programs
from ensemble.checkpoints.header import read_metadata
from ensemble.checkpoints.state_dict import put, read_state, select_network
from ensemble.errors import CheckpointError, ProjectError
from ensemble.members.settings import Preprocessing
from ensemble.members.source_settings import TimmSource, TorchvisionSource
from ensemble.models import registry as models
from ensemble.models.heads import find_head

# timm has more than a thousand networks, and trying them all takes two minutes: the likely ones first.
_LIKELY_OF_TIMM = 60
# What the weights of most published classifiers expect.
_IMAGENET = Preprocessing(
    size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


@dataclass(frozen=True)
class RecognisedFile:
    """What a file of weights turned out to be.

    Attributes:
        path: The file.
        kind: Whether it holds weights of this project, of another, or an ONNX program.
        architecture: A name for `models.build`; None where no network fits, and for a program.
        num_outputs: Number of logits; None where it is not known.
        preprocessing: Preprocessing to try: this project's own, or that published for the architecture.
    """

    path: Path
    kind: Literal["own", "checkpoint", "onnx"]
    architecture: str | None
    num_outputs: int | None
    preprocessing: Preprocessing


def recognise(path: Path) -> RecognisedFile:
    """Tell what a file of weights is; nothing in it is run but an ONNX graph, on random numbers.

    Raises:
        CheckpointError: The file cannot be read, or holds no weights.
    """
    if path.suffix == ".onnx":
        return _recognise_onnx(path)
    if path.suffix == ".safetensors" and (own := _recognise_own(path)) is not None:
        return own
    state = read_state(path)
    for architecture in _candidates(path):
        if (num_outputs := _num_outputs(architecture, state, path)) is not None:
            return RecognisedFile(
                path, "checkpoint", architecture, num_outputs, _published(architecture)
            )
    return RecognisedFile(path, "checkpoint", None, None, _IMAGENET)


def _recognise_own(path: Path) -> RecognisedFile | None:
    try:
        metadata = read_metadata(path)
        preprocessing = Preprocessing.model_validate_json(metadata["preprocessing"])
        return RecognisedFile(
            path, "own", metadata["architecture"], int(metadata["num_classes"]), preprocessing
        )
    except (CheckpointError, KeyError, ValueError):
        return None  # safetensors of another project


def _recognise_onnx(path: Path) -> RecognisedFile:
    try:
        network = programs.open_program("onnx", path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    for size in (_IMAGENET.size, 32, 64, 96, 128, 160, 192, 240, 256, 288, 299, 320, 384):
        try:
            num_outputs, _ = programs.examine(network, size, str(path))
        except CheckpointError:
            continue  # of another input size
        preprocessing = _IMAGENET.model_copy(
            update={"size": size, "resize": round(size * 256 / 224)}
        )
        return RecognisedFile(path, "onnx", None, num_outputs, preprocessing)
    return RecognisedFile(path, "onnx", None, None, _IMAGENET)


def _candidates(path: Path) -> Iterator[str]:
    """Names to try: those like the file's own name, then all of torchvision, this project and timm."""
    import timm
    from torchvision import models as torchvision_models

    names = [f"torchvision/{name}" for name in torchvision_models.list_models(torchvision_models)]
    of_timm = sorted({name.partition(".")[0] for name in timm.list_pretrained()})
    near = difflib.get_close_matches(path.stem, of_timm, n=_LIKELY_OF_TIMM, cutoff=0.3)
    likely = difflib.get_close_matches(path.stem, [n.partition("/")[2] for n in names], n=8)
    yield from (f"torchvision/{name}" for name in likely)
    yield from names
    yield from sorted(models.SMALL)
    yield from (f"timm/{name}" for name in (*near, *of_timm))


def _num_outputs(architecture: str, state: checkpoint.Weights, path: Path) -> int | None:
    """Return the number of outputs if the weights fit the architecture; None if they do not."""
    try:
        network = _build_without_numbers(architecture)
        own = network.state_dict()
        selected, _ = select_network(state, own.keys())
        head = find_head(network)
        weight = selected.get(f"{head}.weight")
        if weight is None:
            return None
        selected = {name: tensor.to("meta") for name, tensor in selected.items()}
        for name in (f"{head}.weight", f"{head}.bias"):
            if name in selected and name in own:
                selected[name] = selected[name][:2]
        put(network, selected, path, architecture)
    except (CheckpointError, RuntimeError, NotImplementedError):
        return None  # another network, or one that cannot be built without numbers
    return len(weight)


@cache
def _build_without_numbers(architecture: str) -> nn.Module:
    """Build a network of two classes whose tensors have shapes only; kept for the next file."""
    with torch.device("meta"):
        return models.build(architecture, 2)


def _published(architecture: str) -> Preprocessing:
    """Return the preprocessing that a library publishes for the architecture, or ImageNet's."""
    library, _, name = architecture.partition("/")
    try:
        if library == "torchvision":
            from ensemble.pretrained import torchvision_weights

            known = torchvision_weights.describe(TorchvisionSource(name=name)).preprocessing
        elif library == "timm":
            from ensemble.pretrained import timm_weights

            known = timm_weights.describe(TimmSource(name=name)).preprocessing
        else:
            known = None
    except ProjectError:
        known = None
    return known or _IMAGENET
