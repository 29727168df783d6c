"""How predictors do on images that nothing was fitted on: one pass over the table, a window at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble import metrics
from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.members import Member
from ensemble.search.builder import OutrankingBuilder
from ensemble.search.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.search.outranking import OutrankingTable
from ensemble.subclassifiers.route import Routing, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable

WINDOW_IMAGES = 1024


@dataclass(frozen=True)
class Outcome:
    """What one predictor said of the images of a split, as far as scores depend on it.

    Attributes:
        ranks: Classes that outrank the label; 0 is a hit.
        answers: The first class.
        label_probabilities: Of the true class.
    """

    ranks: Int[np.ndarray, "image"]
    answers: Int[np.ndarray, "image"]
    label_probabilities: Float[np.ndarray, "image"]

    @classmethod
    def of(
        cls,
        probabilities: Float[np.ndarray, "image class"],
        labels: Int[np.ndarray, "image"],
        scores: Float[np.ndarray, "image class"] | None = None,
    ) -> "Outcome":
        """Judge probabilities; `scores` says in which order they rank where that differs."""
        scores = probabilities if scores is None else scores
        return cls(
            ranks=metrics.ranks(scores, labels),
            answers=scores.argmax(axis=1),
            label_probabilities=probabilities[np.arange(len(labels)), labels],
        )

    @classmethod
    def join(cls, parts: Sequence["Outcome"]) -> "Outcome":
        """One outcome of all images, in order.

        Raises:
            EmptySplitError: There is no image.
        """
        if not parts:
            raise EmptySplitError(
                "there is no image to judge predictors on. Expected at least one that can be "
                "decoded in each split."
            )
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])))

    def errors(self, k: int) -> int:
        """Images whose label is not among the first k classes."""
        return int((self.ranks >= k).sum())

    @property
    def is_wrong(self) -> Bool[np.ndarray, "image"]:
        """Top-1 errors."""
        return self.ranks >= 1

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of the label, in nats; floored as `metrics.nll` does."""
        floored = np.maximum(np.nan_to_num(self.label_probabilities), PROBABILITY_FLOOR)
        return float(-np.log(floored).mean())


@dataclass(frozen=True)
class FittedRouting:
    """A gate, the sub-classifiers behind it, and the weights of the ensemble before it.

    Attributes:
        routing: Label clusters and threshold.
        subclassifiers: One member for each label cluster.
        units: Weights of the pool whose average the gate looks at.
    """

    routing: Routing
    subclassifiers: tuple[Member, ...]
    units: Int[np.ndarray, "member"]


def windows(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> Iterator[tuple[list[Float[np.ndarray, "image class"]], Int[np.ndarray, "image"]]]:
    """Log-probabilities of each member and labels, for a bounded number of images at a time."""
    for start in range(0, len(images), WINDOW_IMAGES):
        ids = images.image_ids[start : start + WINDOW_IMAGES]
        rows = [table.read(member.column, ids) for member in members]
        yield rows, images.labels[start : start + WINDOW_IMAGES]


def build_outranking(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> OutrankingTable:
    """The outranking table of a split."""
    builder = OutrankingBuilder(tuple(member.name for member in members))
    for rows, labels in windows(table, members, images):
        builder.add(rows, labels)
    return builder.finish()


def evaluate(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    weightings: Mapping[str, Int[np.ndarray, "member"]],
) -> dict[str, Outcome]:
    """Outcomes of every single member, by name, and of every weighting, by its key."""
    singles = {
        member.name: WEIGHT_UNITS * np.eye(len(members), dtype=np.int64)[i]
        for i, member in enumerate(members)
    }
    parts: dict[str, list[Outcome]] = {name: [] for name in (*singles, *weightings)}
    for rows, labels in windows(table, members, images):
        for name, units in (*singles.items(), *weightings.items()):
            parts[name].append(Outcome.of(metrics.average(rows, units), labels))
    return {name: Outcome.join(outcomes) for name, outcomes in parts.items()}


def evaluate_routed(
    table: LogitTable, members: Sequence[Member], images: ImageIndex, fitted: FittedRouting
) -> tuple[Outcome, Bool[np.ndarray, "image"]]:
    """Outcome of the ensemble with its sub-classifiers, and which images were routed."""
    outcomes, routed = [], []
    pool = len(members)
    for rows, labels in windows(table, [*members, *fitted.subclassifiers], images):
        base = metrics.average(rows[:pool], fitted.units)
        subs = [np.exp(part.astype(np.float64)) for part in rows[pool:]]
        gate = is_routed(base, fitted.routing.threshold)
        clusters = fitted.routing.clusters
        outcomes.append(
            Outcome.of(
                answer(base, subs, clusters, gate),
                labels,
                rank_scores(base, subs, clusters, gate),
            )
        )
        routed.append(gate)
    return Outcome.join(outcomes), np.concatenate(routed)


def within_cluster(
    table: LogitTable, member: Member, images: ImageIndex, classes: Iterable[int]
) -> Outcome:
    """A member on the images of one label cluster, restricted to its classes.

    Source: P2, Tables 3-5. Restricted probabilities are divided by their sum.
    """
    wanted = list(classes)
    inside = images.take(np.flatnonzero(np.isin(images.labels, wanted)))
    columns = [member.classes.index(label) for label in wanted]
    output_by_label = {label: output for output, label in enumerate(wanted)}
    parts = []
    for (rows,), labels in windows(table, [member], inside):
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
