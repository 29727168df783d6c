"""Writing an artifact: the members with a weight, their sub-classifiers, and the document."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.artifact import card, requirements
from ensemble.artifact.about import About, Origin
from ensemble.artifact.document import (
    FILE_NAME,
    ArtifactDocument,
    CascadeEntry,
    CascadeStepEntry,
    ConformalEntry,
    FallbackEntry,
    MemberEntry,
    NetworkEntry,
    RoutingEntry,
    SubclassifierEntry,
)
from ensemble.artifact.golden import write_golden
from ensemble.artifact.sums import write_sums
from ensemble.cascade.steps import Steps, with_lead
from ensemble.evaluation.conformal import ConformalSets
from ensemble.files import publish_folder, seal
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import to_units
from ensemble.outranking.weighting import Weighting
from ensemble.search.fallbacks import Fallback
from ensemble.subclassifiers.route import FittedRouting

COSTS = "costs.json"
"""File with what each member costs an image, by the member's name, then unit."""

_DIGEST_CHARS = 12


def save(
    folder: Path,
    members: Sequence[Member],
    weighting: Weighting,
    classes: Sequence[str],
    search: str,
    routing: FittedRouting | None = None,
    fallbacks: Sequence[Fallback] = (),
    temperature: float = 1.0,
    about: About | None = None,
    cascade: Steps | None = None,
    lead: Member | None = None,
    conformal: ConformalSets | None = None,
) -> None:
    """Write the artifact; members without a weight are left out.

    Args:
        folder: Folder of the artifact; an older one is replaced as a whole.
        members: The pool.
        weighting: Weight of each member, in units of 0.00001, and what they are weights of.
        classes: Class names.
        search: Kind of the search that fitted the weights.
        routing: The gate and its sub-classifiers; left out if the gate never opens.
        fallbacks: Weights for the loss of a member, over others that have a weight.
        temperature: Temperature of the ensemble's probabilities (`calibration`).
        about: What the artifact tells of itself beside its weights.
        cascade: Steps of a cascade over the members with a weight; None where all of them answer every image.
        lead: The first member of the cascade where it has no weight.
        conformal: Sets that every answer has; None where answers have none.

    Raises:
        OSError: A checkpoint cannot be read, or the disk is full.
    """
    about = about or About()
    building = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    for part in ("members", "subclassifiers"):
        (building / part).mkdir(parents=True)
    entries = [
        MemberEntry(weight_units=int(weight), **_network(member, building, about))
        for member, weight in zip(members, weighting.units, strict=True)
        if weight
    ]
    is_open = routing is not None and routing.routing.is_open
    document = ArtifactDocument(
        classes=tuple(classes),
        data_sha256=members[0].data_sha256,
        search=search,
        members=tuple(entries),
        combine=weighting.combine,
        scale=weighting.scale,
        routing=_save_routing(building, routing) if routing and is_open else None,
        fallbacks=tuple(_save_fallback(fallback) for fallback in fallbacks),
        temperature=temperature,
        versions=requirements.versions_of(with_lead(members, lead)),
        golden=0 if about.golden is None else len(about.golden.images),
        cascade=_save_cascade(
            cascade,
            [entry.name for entry in entries],
            NetworkEntry(**_network(lead, building, about)) if lead else None,
        )
        if cascade
        else None,
        conformal=_save_conformal(conformal) if conformal else None,
    )
    text = json.dumps(seal(document.model_dump(mode="json")), indent=2) + "\n"
    (building / FILE_NAME).write_text(text, encoding="utf-8")
    _write_about(building, document, about)
    write_sums(building)
    publish_folder(building, folder)


def _network(member: Member, folder: Path, about: About) -> dict[str, Any]:
    """Copy a member's checkpoint, and give what the document says of it beside its weight."""
    origin = about.origins.get(member.pool_name, Origin("", ""))
    return {
        "name": member.name,
        "file": _copy(member, folder, f"members/{member.pool_name}"),
        "sha256": member.weights_sha256,
        "views": member.views,
        "precision": member.precision,
        "temperature": member.temperature,
        "source": origin.source,
        "licence": origin.licence,
    }


def _save_cascade(steps: Steps, names: Sequence[str], lead: NetworkEntry | None) -> CascadeEntry:
    names = with_lead(names, lead.name if lead else None)
    return CascadeEntry(
        signal=steps.signal,
        steps=tuple(
            CascadeStepEntry(
                member=names[member], threshold=value if math.isfinite(value) else None
            )
            for member, value in zip(steps.order, steps.thresholds.tolist(), strict=True)
        ),
        lead=lead,
    )


def _save_conformal(sets: ConformalSets) -> ConformalEntry:
    threshold = sets.threshold if math.isfinite(sets.threshold) else None
    return ConformalEntry(coverage=sets.coverage, threshold=threshold, images=sets.num_images)


def _write_about(folder: Path, document: ArtifactDocument, about: About) -> None:
    names = [entry.name for entry in document.networks]
    costs = {name: dict(about.costs[name]) for name in names if name in about.costs}
    if costs:
        text = json.dumps(
            {"schema_version": 1, "machine": about.machine, "members": costs}, indent=2
        )
        (folder / COSTS).write_text(text + "\n", encoding="utf-8")
    if about.golden is not None:
        write_golden(folder, about.golden)
    requirements_text = requirements.render(document.versions)
    (folder / requirements.FILE_NAME).write_text(requirements_text, encoding="utf-8")
    (folder / card.FILE_NAME).write_text(card.render_card(document, about), encoding="utf-8")


def _copy(member: Member, folder: Path, stem: str) -> str:
    """Copy a member's checkpoint under a name of its content.

    Where an artifact is replaced file by file, as on S3, the files of the older one stay until the
    document names the new ones.
    """
    file = f"{stem}-{member.weights_sha256[:_DIGEST_CHARS]}.safetensors"
    if not (folder / file).exists():  # another view's member may have brought it
        shutil.copyfile(member.checkpoint, folder / file)
    return file


def _save_routing(folder: Path, fitted: FittedRouting) -> RoutingEntry:
    routing = fitted.routing
    members = [fitted.subclassifiers[number] for number in routing.used]
    return RoutingEntry(
        threshold=routing.threshold,
        gate=routing.gate.kind,
        coefficients=routing.gate.coefficients,
        kind=routing.kind,
        clusters=routing.clusters,
        subclassifiers=tuple(
            SubclassifierEntry(
                classes=member.classes,
                file=_copy(member, folder, f"subclassifiers/{number}"),
                sha256=member.weights_sha256,
                views=member.views,
                precision=member.precision,
            )
            for number, member in enumerate(members)
        ),
    )


def _save_fallback(fallback: Fallback) -> FallbackEntry:
    units = to_units(np.array(list(fallback.weights.values()))).tolist()
    return FallbackEntry(
        missing=fallback.member,
        weight_units=dict(zip(fallback.weights, units, strict=True)),
        scale=fallback.scale,
    )
