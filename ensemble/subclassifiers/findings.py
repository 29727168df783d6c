"""What the sub-classifiers' stages of a run found, for the report and the artifact."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.evaluation.outcome import Outcome
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.subclassifiers.choose import RoutingCurve, Trial, best_trial
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import FittedRouting, Routing


@dataclass(frozen=True)
class Clustered:
    """One number of label clusters, with everything that was fitted for it.

    Attributes:
        num_clusters: S as it was asked for.
        clusters: What was found.
        stability: Adjusted Rand index with those of resampled similarities, by seed.
        subclassifiers: By the label cluster's index; none where fine-tuning failed.
        failures: Why it did, by the same index.
        paper: The paper's gate and routing, fitted as the paper does.
        paper_curve: Errors of that routing by threshold.
        trials: Every gate with every routing.
    """

    num_clusters: int
    clusters: LabelClusters
    stability: tuple[float, ...]
    subclassifiers: Mapping[int, Member]
    failures: Mapping[int, str]
    paper: Routing
    paper_curve: RoutingCurve
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The gate and routing with the fewest held-out errors."""
        return self.trials[best_trial(self.trials)]


@dataclass(frozen=True)
class Subclassified:
    """Sub-classifiers of one base for every number of label clusters.

    Attributes:
        member: Whose weights were fine-tuned.
        first: Who answers first, in words.
        units: Weights of the pool for that.
        similarity: Of the labels.
        stopping: Search images that fine-tuning was stopped on.
        choosing: Search images that everything else was chosen on.
        tried: One for each number of label clusters.
        ensemble_errors: Errors of the run's ensemble on the choosing images.
        control: The member after as much training on all classes; none where that was not asked for.
    """

    member: Member
    first: str
    units: Int[np.ndarray, "member"]
    similarity: Float[np.ndarray, "class class"]
    stopping: ImageIndex
    choosing: ImageIndex
    tried: tuple[Clustered, ...]
    ensemble_errors: int
    control: Member | None = None

    @property
    def chosen(self) -> Clustered:
        """The number of label clusters whose best gate has the fewest held-out errors."""
        return self.tried[best_trial([clustered.best for clustered in self.tried])]

    @property
    def paper(self) -> Clustered:
        """The number of label clusters with the fewest errors by the paper's threshold.

        Source: P2 §IV-1: S and e are chosen on validation images.
        """

        def cost(clustered: Clustered) -> tuple[int, int]:
            curve = clustered.paper_curve
            return int(curve.errors[curve.best]), int(curve.routed[curve.best])

        return min(self.tried, key=cost)

    @property
    def is_used(self) -> bool:
        """Whether the gate opens, and answers better so than the run's ensemble alone."""
        trial = self.chosen.best
        return trial.routing.is_open and trial.held_out_errors < self.ensemble_errors

    def fitted(self) -> FittedRouting:
        """What was chosen."""
        chosen = self.chosen
        return FittedRouting(chosen.best.routing, chosen.subclassifiers, self.units)

    def fitted_as_paper(self) -> FittedRouting:
        """What the paper would choose."""
        return FittedRouting(self.paper.paper, self.paper.subclassifiers, self.units)


@dataclass(frozen=True)
class RoutedTest:
    """One routing on the test split.

    Attributes:
        fitted: The routing.
        outcome: With it.
        is_routed: Which images went to a sub-classifier.
    """

    fitted: FittedRouting
    outcome: Outcome
    is_routed: Bool[np.ndarray, "image"]


@dataclass(frozen=True)
class SubclassifiersOnTest:
    """The three predictors that P2 compares, on images that none of them saw.

    Attributes:
        first: Without sub-classifiers.
        paper: With the paper's gate and routing.
        chosen: With those that were chosen.
        control: Without sub-classifiers, and the base trained on for as long; none where it was not.
    """

    first: Outcome
    paper: RoutedTest
    chosen: RoutedTest
    control: Outcome | None = None
