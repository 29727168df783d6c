"""Answers with sub-classifiers: what a split is answered with routing, read from the table in windows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import (
    Temperature,
    at_temperature,
    calibrate,
    calibration_images,
)
from ensemble.evaluation.conformal import JudgedSets, SetCounts, fit_sets
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_windows
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.choose import Evidence
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable


def evaluate_routed(
    table: LogitTable, members: Sequence[Member], images: ImageIndex, fitted: FittedRouting
) -> tuple[Outcome, Bool[np.ndarray, "image"]]:
    """Judge an ensemble with sub-classifiers on a split.

    Args:
        table: The logit table, with the rows of the members and of the sub-classifiers.
        members: The pool.
        images: Images of the split.
        fitted: The routing.

    Returns:
        The outcome, and which images are routed.

    Raises:
        EmptySplitError: There is no image.
    """
    outcomes, routed, routing = [], [], fitted.routing
    for part in _evidence_windows(
        table, members, images, fitted.weighting, routing.clusters, fitted.subclassifiers
    ):
        routed.append(is_routed(part.base, routing))
        probabilities = answer(part.base, part.subs, routing, routed[-1])
        scores = rank_scores(part.base, part.subs, routing, routed[-1])
        outcomes.append(Outcome.of(probabilities, part.labels, scores))
    return Outcome.join(outcomes), np.concatenate(routed)


def final_probabilities(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    weighting: Weighting,
    fitted: FittedRouting | None,
) -> Iterator[tuple[Float[np.ndarray, "image class"], Int[np.ndarray, "image"]]]:
    """Give the probabilities that an ensemble answers with, routed or not, and labels, by windows."""
    if fitted is None:
        for rows, labels in read_windows(table, members, images):
            yield metrics.pooled(rows, weighting), labels
        return
    routing = fitted.routing
    for part in _evidence_windows(
        table, members, images, fitted.weighting, routing.clusters, fitted.subclassifiers
    ):
        yield answer(part.base, part.subs, routing, is_routed(part.base, routing)), part.labels


@dataclass(frozen=True)
class CalibrationOnTest:
    """A temperature for an ensemble's answers, and what it does on images it was not fitted on.

    Attributes:
        temperature: Temperature fitted on search images.
        before: Outcome on the test split at a temperature of 1.
        after: Outcome on the test split at the temperature.
        sets: Conformal sets at the temperature, judged on the test split; None where there are none.
    """

    temperature: Temperature
    before: Outcome
    after: Outcome
    sets: JudgedSets | None = None

    @property
    def nll_before(self) -> float:
        """NLL on the test split at a temperature of 1, nats."""
        return self.before.nll

    @property
    def nll_after(self) -> float:
        """NLL on the test split at the temperature, nats."""
        return self.after.nll


def calibrate_answers(
    table: LogitTable,
    members: Sequence[Member],
    search: ImageIndex,
    test: ImageIndex,
    answering: tuple[Weighting, FittedRouting | None],
    seed: int,
    coverage: float | None = None,
) -> CalibrationOnTest | None:
    """Fit a temperature for the answers of an ensemble, and judge it on the test split.

    Args:
        table: The logit table, with the rows of the members and of the sub-classifiers.
        members: The pool.
        search: Images to fit on; of more than 5,000, as many are drawn.
        test: Images to judge on.
        answering: Weights of the members, and the routing if there is one.
        seed: Seed of the folds and of the draw.
        coverage: Least probability that the conformal set of a new image holds its label; None for no sets. There
            are none either where so few images cannot promise it.

    Returns:
        The temperature; None where fewer than two search images can be used.
    """
    search = calibration_images(search, seed)
    if len(search) < 2:
        return None
    windows = list(final_probabilities(table, members, search, *answering))
    probabilities = np.concatenate([part for part, _ in windows])
    labels = np.concatenate([part for _, part in windows])
    sound = np.isfinite(probabilities).all(axis=1)
    if sound.sum() < 2:
        return None
    with np.errstate(divide="ignore"):
        temperature = calibrate(np.log(probabilities[sound]), labels[sound], seed)
    before, after = [], []
    sets = fit_sets(at_temperature(probabilities, temperature.value), labels, coverage)
    counts = SetCounts(sets) if sets else None
    for part, own in final_probabilities(table, members, test, *answering):
        before.append(Outcome.of(part, own))
        at_last = at_temperature(part, temperature.value)
        after.append(Outcome.of(at_last, own))
        if counts is not None:
            counts.add(at_last, own)
    judgement = counts.judge() if counts is not None else None
    return CalibrationOnTest(temperature, Outcome.join(before), Outcome.join(after), judgement)


def gather_evidence(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    weighting: Weighting,
    clusters: LabelClusters,
    subclassifiers: Mapping[int, Member],
    k: int = 1,
) -> Evidence:
    """Gather the probabilities of the base predictor and of the sub-classifiers for some images.

    Args:
        table: The logit table, with the rows of the members and of the sub-classifiers.
        members: The pool.
        images: Images to choose a gate on.
        weighting: Weights of the members; their average is the base predictor.
        clusters: Label clusters.
        subclassifiers: Sub-classifiers by the index of their label cluster.
        k: An image is an error where its label is not among the k highest classes.

    Raises:
        EmptySplitError: There is no image.
    """
    parts = list(_evidence_windows(table, members, images, weighting, clusters, subclassifiers))
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
        k,
    )


def _evidence_windows(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    weighting: Weighting,
    clusters: LabelClusters,
    subclassifiers: Mapping[int, Member],
) -> Iterator[Evidence]:
    weighted = np.flatnonzero(weighting.units).tolist()
    of_weighted = replace(weighting, units=weighting.units[weighted])
    columns = [*(members[i] for i in weighted), *subclassifiers.values()]
    for rows, labels in read_windows(table, columns, images):
        base = metrics.pooled(rows[: len(weighted)], of_weighted)
        rows_by_number = zip(subclassifiers, rows[len(weighted) :], strict=True)
        subs = {number: np.exp(part.astype(np.float64)) for number, part in rows_by_number}
        yield Evidence(clusters, base, subs, labels)


def within_cluster(
    table: LogitTable, member: Member, images: ImageIndex, classes: Iterable[int]
) -> Outcome:
    """Judge a member on the images of one label cluster, restricted to its classes.

    Restricted probabilities are divided by their sum. Without an image the outcome is empty.

    Args:
        table: The logit table, with the member's rows.
        member: A member of the pool, or a sub-classifier.
        images: Images of the split, of all classes.
        classes: Class indices of the label cluster.

    Source: P2, Tables 3-5, where the base is restricted for top-3 alone.
    """
    labels_inside = list(classes)
    inside = images.of_classes(labels_inside)
    columns = [member.classes.index(label) for label in labels_inside]
    output_by_label = {label: output for output, label in enumerate(labels_inside)}
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
        return Outcome(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    return Outcome.join(parts)
