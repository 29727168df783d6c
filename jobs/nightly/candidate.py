"""The candidate of a row: the deployed ensemble as it stands tonight, and the images that it is judged on."""

import csv
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ensemble.artifact.document import ArtifactDocument
from ensemble.artifact.read import Artifact
from ensemble.cascade.steps import with_lead
from ensemble.errors import DataError
from ensemble.images.index import ImageIndex
from ensemble.images.split import stratified_sample
from ensemble.members.member import Member
from ensemble.nightly.deployment import Deployment, subclassifier_name
from ensemble.report.documents.nightly import Conditions, Part
from ensemble.table.logit_table import LogitTable
from jobs.nightly.suite import RowConfig
from jobs.stored_runs.revision import Revision, read_revision

Say = Callable[[str], None]

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Candidate:
    """What is judged tonight.

    Attributes:
        deployment: Document and columns.
        members: The network of each part, by the part's name.
        images: All images that the row's sets are drawn from.
        decode: Gives the pixels of an image by its id; None where there are only predictions.
        notes: What a person should know of how the candidate came about.
    """

    deployment: Deployment
    members: dict[str, Member]
    images: ImageIndex
    decode: Callable[[str], np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The parts with their identities, as a record keeps them."""
        return {
            name: Part(column=member.column, identity=member.identity)
            for name, member in self.members.items()
        }


@dataclass(frozen=True)
class CanaryRun:
    """Tonight's forward passes of one member on a few images.

    Attributes:
        member: Name of the part.
        images: The images.
        log_probabilities: What it gives tonight, `[image, class]`.
        device_kind: Kind of the device that predicted.
        seconds: Seconds that the passes took.
        forward_passes: Number of passes.
    """

    member: str
    images: ImageIndex
    log_probabilities: np.ndarray
    device_kind: str
    seconds: float
    forward_passes: int


@runtime_checkable
class Workers(Protocol):
    """What a night needs of machines; tests have predictions instead."""

    def candidate(self, row: RowConfig, say: Say) -> Candidate:
        """Find the deployed ensemble of a row and its images; a run is done if the row names one."""

    def reference(self, row: RowConfig, say: Say) -> Candidate:
        """Find the pinned reference of a stream, on the images of tonight."""

    def fill(self, table: LogitTable, row: RowConfig, candidate: Candidate, ids: list[str]) -> int:
        """Compute the predictions that the table lacks of some images, and give the forward passes."""

    def canary(self, candidate: Candidate, member: str, images: ImageIndex) -> CanaryRun:
        """Predict a few images with one member, whatever the table holds."""


def deployment_of(
    document: ArtifactDocument, artifact: Artifact
) -> tuple[Deployment, dict[str, Member]]:
    """Put the document of an artifact and its networks together, by the names of the parts."""
    members = {member.name: member for member in with_lead(artifact.members, artifact.lead)}
    if document.routing is not None and artifact.routing is not None:
        by_classes = {sub.classes: sub for sub in artifact.routing.subclassifiers.values()}
        for number, entry in enumerate(document.routing.subclassifiers):
            members[subclassifier_name(number)] = by_classes[entry.classes]
    columns = {name: member.column for name, member in members.items()}
    return Deployment(document, columns), members


def watch_and_vault(row: RowConfig, images: ImageIndex) -> tuple[ImageIndex, ImageIndex]:
    """Divide a row's images into those of every night and those of `accept`, both drawn by class.

    Raises:
        DataError: The two sets need more images than there are.
    """
    if row.vault + (row.watch or 1) > len(images):
        raise DataError(
            f"the row {row.name!r} needs {row.watch or 1} images to watch and {row.vault} for the vault, and "
            f"there are {len(images)}. Lower `watch` or `vault`, or give more images."
        )
    vault = stratified_sample(images, row.vault, row.seed) if row.vault else images.take(_none())
    in_vault = set(vault.image_ids.tolist())
    rest = images.take(np.flatnonzero([i not in in_vault for i in images.image_ids.tolist()]))
    watch = stratified_sample(rest, row.watch, row.seed) if row.watch else rest
    return watch, vault


def conditions(
    row: RowConfig, candidate: Candidate, images: ImageIndex, table: LogitTable
) -> Conditions:
    """Describe under which conditions a candidate is judged on images."""
    revision = _revision()
    libraries: dict[str, str] = {}
    for part in candidate.parts.values():
        libraries |= part.identity["libraries"]
    columns = set(candidate.deployment.columns.values())
    kinds = {c.device_kind or "unknown" for c in table.commits() if c.column in columns}
    low = {n: m.precision for n, m in candidate.members.items() if m.precision != "float32"}
    return Conditions(
        images=_digest(images.image_ids.tolist()),
        labels=sha256(np.ascontiguousarray(images.labels, dtype="<i8").tobytes()).hexdigest(),
        classes=_digest(candidate.deployment.document.classes),
        decoder=images.source,
        precision=", ".join(f"{name} {precision}" for name, precision in sorted(low.items())),
        device=", ".join(sorted(kinds)),
        driver=_driver() if kinds - {"cpu", "unknown"} else "",
        libraries=libraries,
        commit=revision.git_commit,
        dirty=revision.git_dirty,
        config=row.identity,
        seeds=f"{row.seed}, run {row.run.seed if row.run else 'none'}",
    )


def read_groups(row: RowConfig, images: ImageIndex) -> Int[np.ndarray, "image"] | None:
    """Read which images are near-duplicates of each other; None where the row names no file.

    Raises:
        DataError: The file is not a CSV file with the columns image_id and group.
    """
    if row.groups is None:
        return None
    try:
        with row.groups.open(newline="", encoding="utf-8") as file:
            group_by_id = {line["image_id"]: line["group"] for line in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the groups {str(row.groups)!r} ({error!r}). Expected a CSV file with the columns "
            "image_id and group."
        ) from error
    names = [group_by_id.get(i, f"\0{i}") for i in images.image_ids.tolist()]
    return np.unique(np.array(names), return_inverse=True)[1].reshape(-1)


@cache
def _revision() -> Revision:
    """The code that this process runs; asking git takes longer than comparing a row."""
    return read_revision()


def _digest(texts: Iterable[str]) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()


def _none() -> Int[np.ndarray, "image"]:
    return np.empty(0, np.int64)


def _driver() -> str:
    try:
        return _DRIVER.read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return f"unknown, on {platform.platform()}"
