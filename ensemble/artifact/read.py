"""Reading an artifact: its members, weights and routing, with every file checked as it is read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np

from ensemble.artifact.document import (
    FILE_NAME,
    ArtifactDocument,
    ConformalEntry,
    FallbackEntry,
    NetworkEntry,
    RoutingEntry,
    SubclassifierEntry,
    document_without,
    fallback_for,
)
from ensemble.cascade.steps import Steps
from ensemble.errors import CheckpointError
from ensemble.evaluation.conformal import ConformalSets
from ensemble.files import unseal
from ensemble.members.member import Member, in_precision
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.gates import Gate
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import FittedRouting, Routing

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Artifact:
    """An ensemble as it was saved; no network is loaded yet.

    Attributes:
        classes: Class names.
        members: Members with a weight, each at its temperature.
        weighting: Weight of each member, in units of 0.00001, and what they are weights of.
        routing: Gate and sub-classifiers; None where no image is routed.
        fallbacks: Weights for the loss of a member, by its name.
        temperature: Temperature of the ensemble's probabilities.
        folder: The folder that it was read from.
        cascade: Steps of a cascade; None where every image is answered by all members.
        lead: The first member of a cascade where it has no weight; None where there is none.
        conformal: Sets that every answer has; None where answers have none.
    """

    classes: tuple[str, ...]
    members: tuple[Member, ...]
    weighting: Weighting
    routing: FittedRouting | None
    fallbacks: Mapping[str, FallbackEntry]
    temperature: float
    folder: Path
    cascade: Steps | None = None
    lead: Member | None = None
    conformal: ConformalSets | None = None

    def without(self, name: str) -> "Artifact":
        """Leave a member out, and give the others the weights that were fitted for its loss.

        The gate to the sub-classifiers, if there is one, and the temperature stay as fitted. A cascade is left
        out; without its lead all weights stay. So are conformal sets.

        Raises:
            UnknownNameError: No member has this name.
            CheckpointError: The artifact has no weights for the loss of this member.
        """
        if self.lead is not None and self.lead.name == name:
            return replace(self, cascade=None, lead=None, conformal=None)
        fallback = fallback_for(name, [member.name for member in self.members], self.fallbacks)
        weights = fallback.weight_units
        members = tuple(member for member in self.members if member.name in weights)
        units = np.array([weights[member.name] for member in members])
        weighting = Weighting(units, self.weighting.combine, fallback.scale)
        alone = replace(self, cascade=None, lead=None, conformal=None)
        return replace(alone, members=members, weighting=weighting, fallbacks={})


def read(folder: Path, *, trust_code: bool = False, without: str | None = None) -> Artifact:
    """Read an artifact; every file in it is checked against its SHA-256.

    Args:
        folder: The `ensemble` folder of a run.
        trust_code: Accept members that run code of their own: factories and .pt2 programs.
        without: Name of a member whose file is lost. The file is not read, and the others get the
            weights that were fitted for this loss.

    Raises:
        UnknownNameError: No member has the name `without`.
        CheckpointError: The folder is not an artifact, a file in it is missing or changed, or there
            are no weights for the loss of the member.
    """
    document = read_document(folder, without)
    members = tuple(_read_member(folder, entry, document, trust_code) for entry in document.members)
    weighting = Weighting(
        np.array([entry.weight_units for entry in document.members]),
        document.combine,
        document.scale,
    )
    routing = None
    if document.routing is not None:
        routing = _read_routing(folder, document, document.routing, weighting, trust_code)
    fallbacks = {fallback.missing: fallback for fallback in document.fallbacks}
    lead = document.cascade.lead if document.cascade else None
    return Artifact(
        document.classes,
        members,
        weighting,
        routing,
        fallbacks,
        document.temperature,
        folder,
        document.cascade.steps_over(document.members) if document.cascade else None,
        _read_member(folder, lead, document, trust_code) if lead else None,
        _read_conformal(document.conformal) if document.conformal else None,
    )


def _read_member(
    folder: Path, entry: NetworkEntry, document: ArtifactDocument, trust_code: bool
) -> Member:
    outputs = tuple(range(len(document.classes)))
    member = _load(folder, entry.name, entry, outputs, document.data_sha256, trust_code)
    return replace(member, temperature=entry.temperature)


def _read_conformal(entry: ConformalEntry) -> ConformalSets:
    threshold = np.inf if entry.threshold is None else entry.threshold
    return ConformalSets(entry.coverage, threshold, entry.images)


def load_unchanged(folder: Path, load: Callable[[], Loaded]) -> Loaded:
    """Load an artifact that a run may replace meanwhile: once more whenever it was replaced.

    Args:
        folder: The folder of the artifact.
        load: Reads its document and its files.

    Raises:
        CheckpointError: The artifact cannot be loaded, and was not replaced meanwhile.
    """
    while True:
        before = _document_in(folder)
        try:
            return load()
        except CheckpointError:
            if _document_in(folder) == before:
                raise


def _document_in(folder: Path) -> bytes | None:
    try:
        return (folder / FILE_NAME).read_bytes()
    except OSError:
        return None  # whoever loads it says what is wrong


def read_document(folder: Path, without: str | None = None) -> ArtifactDocument:
    """Read `ensemble.json`, without one of the members if a name is passed.

    Raises:
        UnknownNameError: No member has the name `without`.
        CheckpointError: The file is missing or is not an artifact's, or there are no weights for the
            loss of the member.
    """
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}. Expected the `ensemble` folder of a run."
        ) from error
    document = parse_document(content, str(path))
    return document if without is None else document_without(document, without)


def parse_document(content: bytes, where: str) -> ArtifactDocument:
    """Read the bytes of an `ensemble.json`.

    Args:
        content: The bytes.
        where: What messages call them.

    Raises:
        CheckpointError: They are not those of an artifact.
    """
    try:
        return ArtifactDocument.model_validate(unseal(_parse(content)))
    except (ValueError, RecursionError) as error:  # also pydantic's, and of bytes that are no text
        raise CheckpointError(
            f"{where} is not an ensemble: {error}. Copy the artifact again, or run again."
        ) from error


def document_sha256(content: bytes) -> str:
    """Identify an artifact by the bytes of its `ensemble.json`."""
    return sha256(content).hexdigest()


def check_document(folder: Path, expected: str) -> None:
    """Refuse an artifact that is not the one that somebody else has read.

    Args:
        folder: The folder of the artifact.
        expected: What `document_sha256` gave of the other one.

    Raises:
        CheckpointError: It is another artifact, or cannot be read.
    """
    content = _document_in(folder)
    if content is None or document_sha256(content) != expected:
        raise CheckpointError(
            f"{folder / FILE_NAME} is not the one that the work began with (sha256 {expected[:16]}…): it was "
            "replaced, or another machine has another one. Put the first one back, or begin anew with another "
            "--out."
        )


def _parse(text: bytes) -> dict[str, object]:
    try:
        document = json.loads(text)
    except ValueError as error:  # bytes that are no text, too
        raise ValueError(f"Invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"it holds {type(document).__name__}")
    return document


def _read_routing(
    folder: Path,
    document: ArtifactDocument,
    entry: RoutingEntry,
    weighting: Weighting,
    trust_code: bool,
) -> FittedRouting:
    clusters = entry.clusters or tuple(sub.classes for sub in entry.subclassifiers)
    labels = sorted(label for classes in clusters for label in classes)
    if labels != list(range(len(document.classes))):
        raise CheckpointError(
            f"{folder / FILE_NAME} has label clusters over the classes {labels}; expected each of "
            f"{len(document.classes)} once."
        )
    subclassifiers = {
        _index_of(folder, clusters, sub.classes): _load(
            folder, sub.file, sub, sub.classes, document.data_sha256, trust_code
        )
        for sub in entry.subclassifiers
    }
    gate = Gate(entry.gate, entry.coefficients)
    used = tuple(sorted(subclassifiers))
    return FittedRouting(
        Routing(clusters, used, entry.threshold, gate, entry.kind), subclassifiers, weighting
    )


def _index_of(folder: Path, clusters: LabelClusters, classes: tuple[int, ...]) -> int:
    if classes not in clusters:
        raise CheckpointError(
            f"{folder / FILE_NAME} has a sub-classifier of the classes {list(classes)}, which are "
            "not one of its label clusters."
        )
    return clusters.index(classes)


def _load(
    folder: Path,
    name: str,
    entry: NetworkEntry | SubclassifierEntry,
    classes: tuple[int, ...],
    data_sha256: str,
    trust_code: bool,
) -> Member:
    # Here, because torch takes seconds to import, and who only looks at an artifact needs none.
    from ensemble.checkpoints.load import load_member

    path = path_of(folder, entry.file)
    member = load_member(name, path, entry.views, data_sha256, trust_code=trust_code)
    if member.weights_sha256 != entry.sha256:
        raise CheckpointError(
            f"{path} is not the file that was saved: its sha256 is {member.weights_sha256[:16]}…, "
            f"expected {entry.sha256[:16]}…. Copy the artifact again."
        )
    if member.classes != classes:
        raise CheckpointError(
            f"{path} is about the classes {list(member.classes)}, and {folder / FILE_NAME} says "
            f"{list(classes)}. Copy the artifact again."
        )
    return in_precision(member, entry.precision)


def path_of(folder: Path, file: str) -> Path:
    """Give the path of a file that a document names.

    Raises:
        CheckpointError: The name leads out of the folder.
    """
    path = folder / file
    # A name with a zero byte is that of no file, and the system refuses to look.
    if "\0" in file or not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"{folder / FILE_NAME} names {file!r}, outside its folder.")
    return path
