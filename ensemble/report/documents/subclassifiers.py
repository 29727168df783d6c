"""The part of report.json about sub-classifiers. Accuracies are fractions; errors are top-1."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.weights import Base64Png, Count, Difference, Fraction, Sha256
from ensemble.subclassifiers.settings import Clustering, GateKind, RoutingKind, Similarity

MAX_DRAWN_CLASSES = 200


class RoutingPoint(Config):
    """What the choosing images say of routing those whose score reaches a threshold."""

    threshold: FiniteFloat | None = None
    """A score of the gate; None: the gate stays shut."""
    search_errors: Count
    routed: Count


class RoutingTrial(Config):
    """A gate and a routing for one number of label clusters, on images they were not fitted on."""

    gate: GateKind
    kind: RoutingKind
    threshold: FiniteFloat | None = None
    """Fitted on all choosing images; None: it gained nothing on held-out ones."""
    held_out_errors: Count
    routed: Count


class LabelCluster(Config):
    """Classes put together, and the sub-classifier trained on them.

    Accuracies are over the label cluster's own test images; None without one, or without a
    sub-classifier.
    """

    index: Count
    classes: Annotated[tuple[Count, ...], Field(min_length=1)]
    train_images: Count
    test_images: Count
    base_top1_accuracy: Fraction | None = None
    """The base among all classes: what P2 shows for top-1."""
    restricted_top1_accuracy: Fraction | None = None
    """The base among the label cluster's classes: what the sub-classifier must beat."""
    sub_top1_accuracy: Fraction | None = None
    restricted_topk_accuracy: Fraction | None = None
    sub_topk_accuracy: Fraction | None = None
    epochs: Count | None = None
    """Epochs of fine-tuning; None if it failed."""
    best_epoch: Count | None = None
    """The epoch whose weights stayed; 0 is the base's own."""
    gain: int = 0
    """Held-out images of its slice put right less those put wrong, by the best gate of this S."""
    is_used: bool = False
    """Whether that gate asks it."""
    failure: str | None = None
    """Why there is no sub-classifier."""


class ClusteredLabels(Config):
    """One number of label clusters (S), with its sub-classifiers and gates."""

    num_clusters: PositiveInt
    """As asked for."""
    clusters: Annotated[tuple[LabelCluster, ...], Field(min_length=1)]
    stability: tuple[FiniteFloat, ...]
    """Adjusted Rand index with label clusters of resampled similarities, by seed."""
    trials: Annotated[tuple[RoutingTrial, ...], Field(min_length=1)]
    best: Count
    """Index of the trial with the fewest held-out errors."""
    paper: RoutingPoint
    """The paper's threshold, and its errors where it was fitted."""


class RoutedResult(Config):
    """One of the three predictors that P2 compares, or the base trained on, on the test split."""

    key: Literal["first", "control", "paper", "chosen"]
    label: str
    errors: Count
    routed: Count
    against_first: Difference | None = None
    """None for the first itself."""
    against_control: Difference | None = None
    """Of a routing, where the base was trained on."""


class ImagePart(Config):
    """Images that were used for one thing, by the hash of their ids and labels in order."""

    name: Literal["train", "stopping", "choosing", "test"]
    images: Count
    sha256: Sha256


class Bar(Config):
    """A class and its log-probability in nats."""

    label: Count
    value: FiniteFloat


class RoutedExample(Config):
    """A test image whose answer gate and routing turn.

    Source: P2, Figs. 2-4.
    """

    kind: Literal["fixed", "broken"]
    image_id: str
    label: Count
    png_base64: Base64Png
    score: FiniteFloat
    """Of the gate."""
    first_answer: Count
    answer: Count
    cluster: Count
    first: tuple[Bar, ...]
    """All classes, by who answers first."""
    sub: tuple[Bar, ...]
    """The label cluster's classes, by its sub-classifier."""


class Subclassifiers(Config):
    """Label clusters, their sub-classifiers, and the gate that routes to them."""

    base: str
    """The member whose weights are fine-tuned."""
    routed_base: str
    """The predictor that answers first."""
    similarity_kind: Similarity
    clustering: Clustering
    tried: Annotated[tuple[ClusteredLabels, ...], Field(min_length=1)]
    chosen: Count
    """Index of the number of label clusters with the fewest held-out errors."""
    paper: Count
    """Index of the one that the paper's threshold does best with."""
    base_errors: Count
    """Of the predictor that answers first, on the choosing images."""
    curve: tuple[RoutingPoint, ...]
    """For the chosen gate and routing, by rising threshold; the shut gate comes last."""
    similarity: tuple[tuple[FiniteFloat, ...], ...] | None
    """Between labels, class by class; None above `MAX_DRAWN_CLASSES` classes."""
    parts: tuple[ImagePart, ...]
    """Images that were trained on, stopped on, chosen on and tested on; all disjoint."""
    results: tuple[RoutedResult, ...]
    examples: tuple[RoutedExample, ...] = ()

    @property
    def used(self) -> ClusteredLabels:
        """The chosen number of label clusters."""
        return self.tried[self.chosen]

    @property
    def trial(self) -> RoutingTrial:
        """The chosen gate and routing."""
        return self.used.trials[self.used.best]

    @property
    def threshold(self) -> float | None:
        """Images with at least this score are routed; None: no image is."""
        return self.trial.threshold

    @property
    def clusters(self) -> tuple[LabelCluster, ...]:
        """The chosen label clusters."""
        return self.used.clusters

    @property
    def choosing_images(self) -> int:
        """Images that gate and routing were chosen on."""
        return next(part.images for part in self.parts if part.name == "choosing")

    def check_classes(self, num_classes: int) -> None:
        """Check that the label clusters are a partition, and the similarity is of all classes."""
        for tried in self.tried:
            found = sorted(k for cluster in tried.clusters for k in cluster.classes)
            if found != list(range(num_classes)):
                raise ValueError(
                    f"label clusters hold {found}; each of {num_classes} classes once."
                )
        rows = self.similarity
        if rows is not None and {len(rows), *map(len, rows)} != {num_classes}:
            raise ValueError(f"the similarity matrix is not {num_classes} x {num_classes}.")
