"""The part of report.json about sub-classifiers. Accuracies are fractions; errors are at the report's k."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.weights import Base64Png, Count, Difference, Fraction, Sha256
from ensemble.subclassifiers.settings import Clustering, GateKind, RoutingKind, Similarity

MAX_DRAWN_CLASSES = 200


class RoutingPoint(Config):
    """Errors on the choosing images where those are routed whose score reaches a threshold."""

    threshold: FiniteFloat | None = None
    """Least score of an image that is routed; None where the gate stays shut."""
    search_errors: Count
    routed: Count


class RoutingTrial(Config):
    """A gate and a routing for one number of label clusters, judged on images they were not fitted on."""

    gate: GateKind
    kind: RoutingKind
    threshold: FiniteFloat | None = None
    """Threshold fitted on all choosing images; None where the gate gains nothing on held-out ones."""
    held_out_errors: Count
    routed: Count
    is_affordable: bool = True
    """Whether `search.max_cost` leaves room for the sub-classifiers that are routed to."""


class LabelCluster(Config):
    """A label cluster and the sub-classifier that was fine-tuned on its classes.

    Accuracies are over the test images of the label cluster's classes. They are None where there is no
    such image, and those of the sub-classifier also where fine-tuning failed.
    """

    index: Count
    classes: Annotated[tuple[Count, ...], Field(min_length=1)]
    train_images: Count
    test_images: Count
    base_top1_accuracy: Fraction | None = None
    """Top-1 accuracy of the base among all classes, as P2 shows it."""
    restricted_top1_accuracy: Fraction | None = None
    """Top-1 accuracy of the base among the classes of the label cluster, to compare the sub-classifier with."""
    sub_top1_accuracy: Fraction | None = None
    restricted_topk_accuracy: Fraction | None = None
    sub_topk_accuracy: Fraction | None = None
    epochs: Count | None = None
    """Number of epochs of fine-tuning; None where it failed."""
    best_epoch: Count | None = None
    """Epoch whose weights were kept; at 0 they are those of the base."""
    gain: int = 0
    """Held-out images that routing to this label cluster puts right, less those it puts wrong, by the best gate."""
    is_used: bool = False
    """Whether the best gate routes images to this sub-classifier."""
    failure: str | None = None
    """Reason why fine-tuning failed; None where it worked."""


class ClusteredLabels(Config):
    """One number of label clusters (S), with its sub-classifiers and gates."""

    num_clusters: PositiveInt
    """Number of label clusters as set; bounds on their size can change it."""
    clusters: Annotated[tuple[LabelCluster, ...], Field(min_length=1)]
    stability: tuple[FiniteFloat, ...]
    """Adjusted Rand index with the label clusters of resampled similarities, by seed."""
    trials: Annotated[tuple[RoutingTrial, ...], Field(min_length=1)]
    best: Count
    """Index of the trial with the fewest held-out errors."""
    paper: RoutingPoint
    """Threshold of the paper's gate, and its errors on the images that it was fitted on."""


class RoutedResult(Config):
    """A predictor on the test split: one of the three of P2, or the base predictor trained on (`control`)."""

    key: Literal["first", "control", "paper", "chosen"]
    label: str
    errors: Count
    routed: Count
    against_first: Difference | None = None
    """Difference to the base predictor (`first`); None for the base predictor itself."""
    against_control: Difference | None = None
    """Difference of a routing to `control`; None where there is no control or no image is routed."""


class ImagePart(Config):
    """Images of one use, known by the SHA-256 of their ids and labels in order."""

    name: Literal["train", "stopping", "choosing", "test"]
    images: Count
    sha256: Sha256


class Bar(Config):
    """A class and its log-probability in nats."""

    label: Count
    value: FiniteFloat


class RoutedExample(Config):
    """A test image that routing puts right or puts wrong.

    Source: P2, Figs. 2-4.
    """

    kind: Literal["fixed", "broken"]
    image_id: str
    label: Count
    png_base64: Base64Png
    score: FiniteFloat
    """Score of the gate."""
    first_answer: Count
    answer: Count
    cluster: Count
    first: tuple[Bar, ...]
    """Log-probabilities of all classes, by the base predictor."""
    sub: tuple[Bar, ...]
    """Log-probabilities of the label cluster's classes, by its sub-classifier."""


class Subclassifiers(Config):
    """Label clusters, their sub-classifiers, and the gate that routes to them."""

    base: str
    """Name of the member whose weights are fine-tuned."""
    routed_base: str
    """Name of the base predictor, which answers every image that is not routed."""
    similarity_kind: Similarity
    clustering: Clustering
    tried: Annotated[tuple[ClusteredLabels, ...], Field(min_length=1)]
    chosen: Count
    """Index in `tried` of the number of label clusters with the fewest held-out errors."""
    paper: Count
    """Index in `tried` of the number of label clusters with the fewest errors by the paper's threshold."""
    base_errors: Count
    """Errors of the base predictor on the choosing images."""
    curve: tuple[RoutingPoint, ...]
    """Errors of the chosen gate and routing, by rising threshold; the shut gate comes last."""
    similarity: tuple[tuple[FiniteFloat, ...], ...] | None
    """Similarity of every pair of labels, in class order; None above 200 classes."""
    parts: tuple[ImagePart, ...]
    """Images that were trained on, stopped on, chosen on and tested on. They are disjoint, but that the same
    images serve for stopping and choosing where nothing is stopped."""
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
        """Least score of an image that is routed; None where none is."""
        return self.trial.threshold

    @property
    def clusters(self) -> tuple[LabelCluster, ...]:
        """The chosen label clusters."""
        return self.used.clusters

    @property
    def choosing_images(self) -> int:
        """Number of images that gate and routing were chosen on."""
        return next(part.images for part in self.parts if part.name == "choosing")

    def check_classes(self, num_classes: int) -> None:
        """Check that the label clusters are a partition, and that the similarity is of all classes.

        Raises:
            ValueError: A class is in no label cluster or in two, or the similarity is of other classes.
        """
        for tried in self.tried:
            labels = sorted(k for cluster in tried.clusters for k in cluster.classes)
            if labels != list(range(num_classes)):
                raise ValueError(
                    f"label clusters hold {labels}; each of {num_classes} classes once."
                )
        rows = self.similarity
        if rows is not None and {len(rows), *map(len, rows)} != {num_classes}:
            raise ValueError(f"the similarity matrix is not {num_classes} x {num_classes}.")
