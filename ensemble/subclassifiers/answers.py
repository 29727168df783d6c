"""ensemble / subclassifiers / answers: say here what this file is responsible for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import (
    Temperature,
    _few,
    at_temperature,
    calibrate,
)
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_windows
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.subclassifiers.choose import Evidence
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable


def evaluate_routed(
    table: LogitTable, members: Sequence[Member], images: ImageIndex, fitted: FittedRouting
) -> tuple[Outcome, Bool[np.ndarray, "image"]]:
    """Outcome with sub-classifiers, and which images were routed."""
    outcomes, routed, routing = [], [], fitted.routing
    for part in _evidence_windows(
        table, members, images, fitted.units, routing.clusters, fitted.subclassifiers
    ):
        gate = is_routed(part.base, routing)
        probabilities = answer(part.base, part.subs, routing, gate)
        scores = rank_scores(part.base, part.subs, routing, gate)
        outcomes.append(Outcome.of(probabilities, part.labels, scores))
        routed.append(gate)
    return Outcome.join(outcomes), np.concatenate(routed)


def final_probabilities(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    units: Int[np.ndarray, "member"],
    fitted: FittedRouting | None,
) -> Iterator[tuple[Float[np.ndarray, "image class"], Int[np.ndarray, "image"]]]:
    """What an ensemble says in the end, routed or not, and labels; a window at a time."""
    if fitted is None:
        for rows, labels in read_windows(table, members, images):
            yield metrics.average(rows, units), labels
        return
    routing = fitted.routing
    for part in _evidence_windows(
        table, members, images, fitted.units, routing.clusters, fitted.subclassifiers
    ):
        yield answer(part.base, part.subs, routing, is_routed(part.base, routing)), part.labels


@dataclass(frozen=True)
class CalibrationOnTest:
    """A temperature for an ensemble's answers, and what it does where it was not fitted.

    Attributes:
        temperature: Fitted on search images.
        nll_before: On the test split, nats.
        nll_after: There, at the temperature.
    """

    temperature: Temperature
    nll_before: float
    nll_after: float


def calibrate_answers(
    table: LogitTable,
    members: Sequence[Member],
    search: ImageIndex,
    test: ImageIndex,
    answering: tuple[Int[np.ndarray, "member"], FittedRouting | None],
    seed: int,
) -> CalibrationOnTest | None:
    """Fit a temperature for what an ensemble says in the end, and judge it on the test split.

    Args:
        table: With the rows of all of them.
        members: The pool.
        search: To fit on; of more than 5,000 images, as many at random.
        test: To judge on.
        answering: Weights, and the routing if there is one.
        seed: Of the folds and of that choice.

    Returns:
        None where fewer than two search images can be used.
    """
    search = _few(search, seed)
    if len(search) < 2:
        return None
    fitted_on = list(final_probabilities(table, members, search, *answering))
    probabilities = np.concatenate([part for part, _ in fitted_on])
    labels = np.concatenate([part for _, part in fitted_on])
    sound = np.isfinite(probabilities).all(axis=1)
    if sound.sum() < 2:
        return None
    with np.errstate(divide="ignore"):
        temperature = calibrate(np.log(probabilities[sound]), labels[sound], seed)
    before, after = [], []
    for part, labels in final_probabilities(table, members, test, *answering):
        before.append(Outcome.of(part, labels))
        after.append(Outcome.of(at_temperature(part, temperature.value), labels))
    return CalibrationOnTest(temperature, Outcome.join(before).nll, Outcome.join(after).nll)


def gather_evidence(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    units: Int[np.ndarray, "member"],
    clusters: LabelClusters,
    subclassifiers: Mapping[int, Member],
) -> Evidence:
    """What base and sub-classifiers said of some images, all at once.

    Args:
        table: With the rows of all of them.
        members: The pool.
        images: To choose a gate on.
        units: Weights of the pool whose average answers first.
        clusters: Label clusters.
        subclassifiers: By the label cluster's index.

    Raises:
        EmptySplitError: There is no image.
    """
    parts = list(_evidence_windows(table, members, images, units, clusters, subclassifiers))
    if not parts:
        raise EmptySplitError(
            "there is no image to choose a gate on. Raise images.split.search, or set "
            "subclassifiers.patience=null, which leaves all of them to the gate."
        )
    return Evidence(
        clusters,
        np.concatenate([part.base for part in parts]),
        {i: np.concatenate([part.subs[i] for part in parts]) for i in subclassifiers},
        np.concatenate([part.labels for part in parts]),
    )


def _evidence_windows(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    units: Int[np.ndarray, "member"],
    clusters: LabelClusters,
    subclassifiers: Mapping[int, Member],
) -> Iterator[Evidence]:
    voting = np.flatnonzero(units).tolist()
    everyone = [*(members[i] for i in voting), *subclassifiers.values()]
    for rows, labels in read_windows(table, everyone, images):
        base = metrics.average(rows[: len(voting)], units[voting])
        said = zip(subclassifiers, rows[len(voting) :], strict=True)
        subs = {number: np.exp(part.astype(np.float64)) for number, part in said}
        yield Evidence(clusters, base, subs, labels)


def within_cluster(
    table: LogitTable, member: Member, images: ImageIndex, classes: Iterable[int]
) -> Outcome:
    """A member on the images of one label cluster, restricted to its classes.

    Source: P2, Tables 3-5, where the base is restricted for top-3 alone.
    Restricted probabilities are divided by their sum.
    """
    wanted = list(classes)
    inside = images.of_classes(wanted)
    columns = [member.classes.index(label) for label in wanted]
    output_by_label = {label: output for output, label in enumerate(wanted)}
    parts = []
    for (rows,), labels in read_windows(table, [member], inside):
        probabilities = np.exp(rows.astype(np.float64))[:, columns]
        total = probabilities.sum(axis=1, keepdims=True)
        parts.append(
            Outcome.of(
                probabilities / np.where(total > 0, total, 1),
                np.array([output_by_label[int(label)] for label in labels]),
            )
        )
    if not parts:
        return Outcome(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return Outcome.join(parts)
