"""Two runs, artifacts of runs, or nights compared image by image: which is worse, and what differs between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.artifact.read import read_document
from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, UnknownNameError
from ensemble.images.index import ImageIndex
from ensemble.nightly.blame import changed_parts
from ensemble.nightly.deployment import WEIGHTS, Deployment, evaluate, subclassifier_name
from ensemble.nightly.outcomes import Outcomes
from ensemble.report.documents.nightly import Comparison, Conditions, Figure
from ensemble.storage.open import open_store
from jobs.nightly.baselines import MUST_MATCH_ALWAYS, differences
from jobs.nightly.explain import deployment_in
from jobs.nightly.history import read_history, read_outcomes
from jobs.nightly.suite import GateConfig, in_folder_of, load_suite
from jobs.nightly.verdicts import compare_outcomes, figures_of
from jobs.stored_runs.finished import open_finished_run
from jobs.stored_runs.layout import ARTIFACT

_NIGHT = re.compile(r"^(?P<suite>.+\.ya?ml)(#(?P<number>[0-9]+))?$")


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: Name of the run or night.
        deployment: The ensemble.
        outcomes: How it does on each image.
        images: The images; None where only a night's record tells of them.
        conditions: Under which conditions a night was judged; None for a run.
    """

    name: str
    deployment: Deployment
    outcomes: Outcomes
    images: ImageIndex | None = None
    conditions: Conditions | None = None


@dataclass(frozen=True)
class Result:
    """What a comparison found.

    Attributes:
        names: Names of both sides.
        n: Number of images that both were judged on; 0 where they cannot be compared.
        figures: Figures of both sides.
        comparisons: Verdicts on b against a.
        changed: Parts that differ: members, sub-classifiers, or weights.
        reason: What makes them not comparable; empty where they are.
    """

    names: tuple[str, str]
    n: int
    figures: tuple[tuple[Figure, ...], tuple[Figure, ...]]
    comparisons: tuple[Comparison, ...]
    changed: tuple[str, ...]
    reason: str = ""


def compare(
    a: str, b: str, gates: Sequence[GateConfig], storage: Sequence[str] = (), level: float = 0.05
) -> tuple[Result, ...]:
    """Compare b with a, on the images that both were judged on and neither was fitted on.

    Args:
        a: A run's folder, its artifact, or a night as nightly.yaml#12; nightly.yaml is the last night.
        b: The same kind.
        gates: Figures, and the least loss of each that matters.
        storage: How S3 is reached, of the form storage.key=value.
        level: Chance of calling a difference that is none, all figures together.

    Returns:
        A result for each row that both have; one for runs.

    Raises:
        ConfigError: A side is neither a run nor a night, or has no ensemble.
    """
    if bool(_NIGHT.match(a)) != bool(_NIGHT.match(b)):
        raise ConfigError(
            f"cannot compare {a!r} with {b!r}: one is a night of a suite, and the other a run. Expected two runs, or "
            "two nights as nightly.yaml#12."
        )
    sides_a, sides_b = _sides(a, storage), _sides(b, storage)
    rows = [name for name in sides_a if name in sides_b]
    if not rows:
        raise ConfigError(
            f"{a!r} and {b!r} have no row in common: {', '.join(sides_a)} against {', '.join(sides_b)}. Expected "
            "nights of suites with rows of the same name."
        )
    return tuple(_compare(sides_a[row], sides_b[row], gates, level) for row in rows)


def _compare(a: Side, b: Side, gates: Sequence[GateConfig], level: float) -> Result:
    names = (a.name, b.name)
    if a.conditions is not None and b.conditions is not None:
        reason = differences(a.conditions, b.conditions, MUST_MATCH_ALWAYS)
    else:
        a, b, reason = _joined(a, b)
    figures = (figures_of(a.outcomes, gates), figures_of(b.outcomes, gates))
    changed = changed_parts(a.deployment, b.deployment)
    if reason:
        return Result(names, 0, figures, (), changed, reason)
    comparisons = compare_outcomes(a.outcomes, b.outcomes, gates, level)
    return Result(names, len(a.outcomes), figures, tuple(comparisons), changed)


def _joined(a: Side, b: Side) -> tuple[Side, Side, str]:
    """Take the images that both test splits have."""
    if a.images is None or b.images is None:
        return a, b, "a night and a run: give two nights, or two runs"
    if a.images.classes != b.images.classes:
        return a, b, "classes: the two have other classes, or another order of them"
    rows_b = {image_id: row for row, image_id in enumerate(b.images.image_ids.tolist())}
    pairs = [
        (row, rows_b[image_id])
        for row, image_id in enumerate(a.images.image_ids.tolist())
        if image_id in rows_b
    ]
    if not pairs or a.images.source != b.images.source:
        return a, b, "images: no image is in the test splits of both"
    at_a, at_b = (np.array(rows) for rows in zip(*pairs, strict=True))
    if not np.array_equal(a.images.labels[at_a], b.images.labels[at_b]):
        return a, b, "labels: the same images have other labels"
    return (
        replace(a, outcomes=_take(a.outcomes, at_a), images=a.images.take(at_a)),
        replace(b, outcomes=_take(b.outcomes, at_b), images=b.images.take(at_b)),
        "",
    )


def _take(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    return Outcomes(
        outcomes.ranks[rows],
        outcomes.answers[rows],
        outcomes.label_probabilities[rows],
        outcomes.confidences[rows],
    )


def _sides(place: str, storage: Sequence[str]) -> dict[str, Side]:
    match = _NIGHT.match(place)
    if match is not None:
        return _night(Path(match["suite"]), match["number"])
    return {"": _run(place, storage)}


def _night(suite: Path, number: str | None) -> dict[str, Side]:
    with in_folder_of(suite) as path:
        config = load_suite(path)
        store = open_store(config.folder, config.storage)
        history = read_history(store)
        if number is None and history.last is None:
            raise ConfigError(f"{suite} has no night yet. Run one: `ensemble nightly {suite}`.")
        known = [str(n) for n, _ in history.nights()]
        if number is not None and str(int(number)) not in known:
            raise UnknownNameError.of("night with the record", number, known)
        night = history.night(int(number)) if number else history.last and history.last[1]
        assert night is not None
        sides: dict[str, Side] = {}
        for row in night.rows:
            deployment = deployment_in(row)
            if deployment is not None and row.outcomes is not None:
                outcomes = read_outcomes(store, row.outcomes)
                name = f"{row.name}, night of {night.date}"
                sides[row.name] = Side(name, deployment, outcomes, None, row.conditions)
    return sides


def _run(place: str, storage: Sequence[str]) -> Side:
    """Open a run, or the run that an artifact lies in, and judge its artifact on its test split."""
    above, _, last = place.rstrip("/").rpartition("/")
    run = open_finished_run(above if last == ARTIFACT else place, storage)
    folder = run.files.url
    if folder.startswith(S3_SCHEME):
        from ensemble.artifact.fetch import fetch

        copy = fetch(f"{folder}/{ARTIFACT}", run.config.storage)
        artifact_folder = copy.path
    else:
        artifact_folder = Path(folder) / ARTIFACT
    document = read_document(artifact_folder)
    columns = {column.member: column.key for column in run.columns}
    chosen = {member.name: columns[member.name] for member in document.members}
    if document.routing is not None:
        from ensemble.artifact.read import read
        from jobs.nightly.candidate import deployment_of

        artifact = read(artifact_folder, trust_code=run.config.weights.trust_code)
        whole, _ = deployment_of(document, artifact)
        for number in range(len(document.routing.subclassifiers)):
            part = subclassifier_name(number)
            chosen[part] = whole.columns[part]
    deployment = Deployment(document, chosen)
    images = run.splits.test
    return Side(run.name, deployment, evaluate(run.table, deployment, images), images)


def describe_changed(changed: Sequence[str]) -> str:
    """Say which parts differ."""
    if not changed:
        return "the two are one and the same ensemble"
    parts = ["weights or members" if part == WEIGHTS else part for part in changed]
    return f"what differs: {', '.join(parts)}"
