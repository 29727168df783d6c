"""A deployed ensemble as rows of a table: its document, the column of each part, and what it answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ensemble.artifact.document import ArtifactDocument, RoutingEntry
from ensemble.cascade.steps import follow
from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import apply_temperature, at_temperature
from ensemble.images.index import ImageIndex
from ensemble.members.identity import fingerprint
from ensemble.nightly.outcomes import Outcomes
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.gates import Gate
from ensemble.subclassifiers.route import Routing, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable

WEIGHTS = "weights"
"""Name of what is no network: weights, temperatures, and the gate to sub-classifiers."""

_WINDOW_IMAGES = 1024


@dataclass(frozen=True)
class Deployment:
    """An ensemble that answers, over columns of a table.

    Attributes:
        document: Members, weights, temperatures and routing.
        columns: Identity of the column of each part: of members by name, of sub-classifiers by
            `subclassifier_name`.
    """

    document: ArtifactDocument
    columns: Mapping[str, str]

    @property
    def weights_identity(self) -> str:
        """Identity of everything that is no network."""
        document, routing = self.document, self.document.routing
        gate = routing and routing.model_dump(mode="json", exclude={"subclassifiers"})
        steps = document.cascade and document.cascade.model_dump(mode="json", exclude={"lead"})
        return fingerprint(
            {
                "members": [[m.name, m.weight_units, m.temperature] for m in document.members],
                "classes": document.classes,
                # Only where there is one: an ensemble without steps has the identity that it always had.
                **({"cascade": steps} if steps else {}),
                "mean": [document.combine, document.scale, document.temperature],
                "gate": gate,
                "subclassifiers": [sub.classes for sub in routing.subclassifiers]
                if routing
                else [],
            }
        )

    @property
    def identity(self) -> str:
        """Identity of all that the answers depend on, but the images."""
        return fingerprint([self.weights_identity, dict(self.columns)])

    def with_column(self, part: str, column: str) -> "Deployment":
        """Put another column in the place of a part's."""
        return replace(self, columns={**self.columns, part: column})


def subclassifier_name(number: int) -> str:
    """Name the part that is the n-th sub-classifier of a document."""
    return f"subclassifier {number}"


def evaluate(table: LogitTable, deployment: Deployment, images: ImageIndex) -> Outcomes:
    """Judge a deployment on images, from the table alone.

    Args:
        table: A table with the rows of every part for every image.
        deployment: The ensemble.
        images: The images.

    Raises:
        EmptySplitError: There is no image.
        IncompleteTableError: The table lacks the row of an image.
    """
    if not len(images):
        raise EmptySplitError(
            "there is no image to judge the ensemble on. Expected at least one that can be decoded."
        )
    parts = []
    for window in windows(len(images)):
        rows = {
            part: table.read(column, images.image_ids[window])
            for part, column in deployment.columns.items()
        }
        parts.append(_outcomes(rows, deployment.document, images.labels[window]))
    return Outcomes(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))
    )


def windows(num_images: int) -> Iterator[slice]:
    """Divide images into windows whose rows fit into memory."""
    for start in range(0, num_images, _WINDOW_IMAGES):
        yield slice(start, start + _WINDOW_IMAGES)


def _outcomes(
    rows: Mapping[str, Float[np.ndarray, "image class"]],
    document: ArtifactDocument,
    labels: np.ndarray,
) -> Outcomes:
    logs = [apply_temperature(rows[member.name], member.temperature) for member in document.members]
    units = np.array([member.weight_units for member in document.members])
    weighting = Weighting(units, document.combine, document.scale)
    scores = metrics.scores(logs, weighting)
    probabilities = metrics.to_probabilities(scores, len(logs), weighting)
    if document.cascade is not None:
        cascade, lead = document.cascade.steps_over(document.members), document.cascade.lead
        if lead is not None:
            logs.append(apply_temperature(rows[lead.name], lead.temperature))
        found = follow(cascade, weighting, scores.shape, lambda step, part: logs[step][part])
        scores, probabilities = found.scores, found.probabilities
    if document.routing is not None:
        routing, parts = _routing(document.routing)
        subs = {number: np.exp(rows[part].astype(np.float64)) for number, part in parts.items()}
        routed = is_routed(probabilities, routing)
        scores = rank_scores(probabilities, subs, routing, routed)
        probabilities = answer(probabilities, subs, routing, routed)
    probabilities = at_temperature(probabilities, document.temperature)
    answers = scores.argmax(axis=1)
    at = np.arange(len(labels))
    return Outcomes(
        ranks=metrics.ranks(scores, labels).astype(np.int32),
        answers=answers.astype(np.int32),
        label_probabilities=probabilities[at, labels].astype(np.float32),
        confidences=probabilities[at, answers].astype(np.float32),
    )


def _routing(entry: RoutingEntry) -> tuple[Routing, dict[int, str]]:
    """Give the routing, and the part that answers for each label cluster with a sub-classifier."""
    clusters = entry.label_clusters
    parts = {
        clusters.index(sub.classes): subclassifier_name(number)
        for number, sub in enumerate(entry.subclassifiers)
    }
    gate = Gate(entry.gate, entry.coefficients)
    return Routing(clusters, tuple(sorted(parts)), entry.threshold, gate, entry.kind), parts
