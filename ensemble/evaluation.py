"""How predictors do on images that nothing was fitted on: one pass over the table, a window at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from ensemble import metrics
from ensemble.calibration import Temperature, apply_temperature, at_temperature, calibrate
from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.members import Member
from ensemble.search.builder import OutrankingBuilder
from ensemble.search.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.search.outranking import OutrankingTable
from ensemble.subclassifiers.choose import Evidence
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import Routing, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable

WINDOW_IMAGES = 1024
_CALIBRATION_IMAGES = 5000  # one number is fitted, eighty times over all of them


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
    """A gate, the sub-classifiers behind it, and the weights of what answers first.

    Attributes:
        routing: Label clusters, gate and threshold.
        subclassifiers: One member for each label cluster that has one, by the label cluster's index.
        units: Weights of the pool whose average the gate looks at.
    """

    routing: Routing
    subclassifiers: Mapping[int, Member]
    units: Int[np.ndarray, "member"]


def said(
    table: LogitTable, member: Member, image_ids: Sequence[str] | Shaped[np.ndarray, "image"]
) -> Float[np.ndarray, "image class"]:
    """Log-probabilities of a member at its temperature."""
    return apply_temperature(table.read(member.column, image_ids), member.temperature)


def windows(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> Iterator[tuple[list[Float[np.ndarray, "image class"]], Int[np.ndarray, "image"]]]:
    """What each member said and labels, for a bounded number of images at a time."""
    for start in range(0, len(images), WINDOW_IMAGES):
        ids = images.image_ids[start : start + WINDOW_IMAGES]
        rows = [said(table, member, ids) for member in members]
        yield rows, images.labels[start : start + WINDOW_IMAGES]


def build_outranking(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> OutrankingTable:
    """The outranking table of a split."""
    builder = OutrankingBuilder(tuple(member.name for member in members))
    for rows, labels in windows(table, members, images):
        builder.add(rows, labels)
    return builder.finish()


class StreamingOutranking:
    """The outranking table of a split, built while blocks arrive: what `build_outranking` gives."""

    def __init__(
        self, table: LogitTable, members: Sequence[Member], images: ImageIndex, shard_images: int
    ) -> None:
        self._table, self._members, self._images = table, members, images
        self._columns = [member.column for member in members]
        self._shard_images = shard_images
        self._builder = OutrankingBuilder(tuple(member.name for member in members))
        self._next = 0
        self._read: list[str] = []

    def landed(self) -> None:
        """Read every shard that all members have by now, as far as no earlier one is lacking."""
        while self._next < len(self._images):
            rows = np.arange(self._next, min(self._next + self._shard_images, len(self._images)))
            ids = self._images.image_ids[rows]
            if any(self._table.missing(column, ids) for column in self._columns):
                return
            bad = {image.image_id for image in self._table.bad_images(self._columns)}
            part = self._images.take(rows[[str(i) not in bad for i in ids]])
            for columns, labels in windows(self._table, self._members, part):
                self._builder.add(columns, labels)
            self._read += part.image_ids.tolist()
            self._next += len(rows)

    def finish(self, images: ImageIndex) -> OutrankingTable:
        """Give the table of the images that are left when all blocks are there.

        If other images are left than were read, all is read again.

        Raises:
            EmptySplitError: No image is left.
            IncompleteTableError: A block is lacking.
        """
        self.landed()
        if self._read and self._read == images.image_ids.tolist():
            return self._builder.finish()
        return build_outranking(self._table, self._members, images)


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
        for rows, labels in windows(table, members, images):
            yield metrics.average(rows, units), labels
        return
    routing = fitted.routing
    for part in _evidence_windows(
        table, members, images, fitted.units, routing.clusters, fitted.subclassifiers
    ):
        yield answer(part.base, part.subs, routing, is_routed(part.base, routing)), part.labels


def calibrate_members(
    table: LogitTable, members: Sequence[Member], images: ImageIndex, seed: int
) -> tuple[Member, ...]:
    """Give each member the temperature that suits some images; 1.0 where none helps.

    Args:
        table: With their rows.
        members: The pool.
        images: Of the search split; of more than 5,000, as many at random.
        seed: Of the folds and of that choice.

    Raises:
        EmptySplitError: A member has fewer than two rows without NaN.
    """
    images = _few(images, seed)
    if len(images) < 2:
        return tuple(members)

    def fitted(member: Member) -> float:
        return calibrate(table.read(member.column, images.image_ids), images.labels, seed).value

    return tuple(replace(member, temperature=fitted(member)) for member in members)


def _few(images: ImageIndex, seed: int) -> ImageIndex:
    if len(images) <= _CALIBRATION_IMAGES:
        return images
    chosen = np.random.default_rng(seed).permutation(len(images))[:_CALIBRATION_IMAGES]
    return images.take(np.sort(chosen))


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
    for rows, labels in windows(table, everyone, images):
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
