"""ensemble / artifact / read: say here what this file is responsible for."""

from pathlib import Path

import numpy as np
from jaxtyping import Int
from pydantic import ValidationError

from ensemble.artifact.document import (
    ArtifactDocument,
    MemberEntry,
    SubclassifierEntry,
    document_without,
)
from ensemble.checkpoints.load import load_member
from ensemble.errors import CheckpointError
from ensemble.members.member import Member, in_precision
from ensemble.subclassifiers.gates import Gate
from ensemble.subclassifiers.route import FittedRouting, Routing

_DOCUMENT = "ensemble.json"


def _read_document(folder: Path, without: str | None) -> ArtifactDocument:
    try:
        document = ArtifactDocument.model_validate_json((folder / _DOCUMENT).read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"cannot read {folder / _DOCUMENT}: {error.strerror}. Expected the `ensemble` folder of "
            "a run."
        ) from error
    except ValidationError as error:
        raise CheckpointError(f"{folder / _DOCUMENT} is not an ensemble: {error}") from error
    return document if without is None else document_without(document, without)


def _load_routing(
    folder: Path, document: ArtifactDocument, units: Int[np.ndarray, "member"], trust_code: bool
) -> FittedRouting:
    entry = document.routing
    assert entry is not None
    clusters = entry.clusters or tuple(sub.classes for sub in entry.subclassifiers)
    labels = sorted(label for group in clusters for label in group)
    if labels != list(range(len(document.classes))):
        raise CheckpointError(
            f"{folder / _DOCUMENT} has label clusters over the classes {labels}; expected each of "
            f"{len(document.classes)} once."
        )
    members = {
        _index_of(folder, clusters, sub.classes): _load_member(
            folder, sub.file, sub, sub.classes, document.data_sha256, trust_code
        )
        for sub in entry.subclassifiers
    }
    gate = Gate(entry.gate, entry.coefficients)
    routing = Routing(clusters, tuple(sorted(members)), entry.threshold, gate, entry.kind)
    return FittedRouting(routing, members, units)


def _index_of(folder: Path, clusters: tuple[tuple[int, ...], ...], classes: tuple[int, ...]) -> int:
    if classes not in clusters:
        raise CheckpointError(
            f"{folder / _DOCUMENT} has a sub-classifier of the classes {list(classes)}, which are "
            "not one of its label clusters."
        )
    return clusters.index(classes)


def _load_member(
    folder: Path,
    name: str,
    entry: MemberEntry | SubclassifierEntry,
    classes: tuple[int, ...],
    data_sha256: str,
    trust_code: bool,
) -> Member:
    path = folder / entry.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"{folder / _DOCUMENT} names {entry.file!r}, outside its folder.")
    member = load_member(name, path, entry.views, data_sha256, trust_code=trust_code)
    if member.weights_sha256 != entry.sha256:
        raise CheckpointError(
            f"{path} is not the file that was saved: its sha256 is {member.weights_sha256[:16]}…, "
            f"expected {entry.sha256[:16]}…. Copy the artifact again."
        )
    if member.classes != classes:
        raise CheckpointError(
            f"{path} is about the classes {list(member.classes)}, and {folder / _DOCUMENT} says "
            f"{list(classes)}. Copy the artifact again."
        )
    return in_precision(member, entry.precision)
