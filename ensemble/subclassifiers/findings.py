"""Findings: what a run fitted and chose for its sub-classifiers, for the report and the artifact."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ensemble.evaluation.outcome import Outcome
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.search.recommend import is_told_apart
from ensemble.subclassifiers.choose import RoutingCurve, Trial, best_trial
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import FittedRouting, Routing


@dataclass(frozen=True)
class Clustered:
    """One number of label clusters, with everything that was fitted for it.

    Attributes:
        num_clusters: Number of label clusters (S) as set; bounds on their size can change it.
        clusters: Label clusters.
        stability: Adjusted Rand index with the label clusters of resampled similarities, by seed.
        subclassifiers: Sub-classifiers by the index of their label cluster, where fine-tuning worked.
        failures: Reasons why fine-tuning failed, by the same index.
        paper: Gate and routing of the paper, fitted as in the paper.
        paper_curve: Errors of the paper's routing by threshold.
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
    """Sub-classifiers of one member for every number of label clusters.

    Attributes:
        member: The member whose weights were fine-tuned.
        first: Name of the base predictor, which answers every image that is not routed.
        weighting: Weights of the members in the base predictor.
        similarity: Similarity of the labels.
        stopping: Search images that fine-tuning was stopped on.
        choosing: Search images that everything else was chosen on.
        tried: What was fitted for each number of label clusters.
        answer_wrong: Whether the predictor that the run answers with, without sub-classifiers, errs
            on each choosing image.
        recommended_wrong: The same of the predictor that the run recommends, without sub-classifiers.
        control: The member after as much training on all classes; None where the settings set no
            control.
    """

    member: Member
    first: str
    weighting: Weighting
    similarity: Float[np.ndarray, "class class"]
    stopping: ImageIndex
    choosing: ImageIndex
    tried: tuple[Clustered, ...]
    answer_wrong: Bool[np.ndarray, "image"]
    recommended_wrong: Bool[np.ndarray, "image"]
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
        """Whether the gate opens, and held-out images tell routing from the answer without it."""
        return self._is_better_than(self.answer_wrong)

    @property
    def is_recommended(self) -> bool:
        """Whether routing is used, and held-out images tell it from the recommended predictor."""
        return self.is_used and self._is_better_than(self.recommended_wrong)

    def _is_better_than(self, wrong: Bool[np.ndarray, "image"]) -> bool:
        trial = self.chosen.best
        return (
            trial.routing.is_open
            and trial.is_affordable
            and is_told_apart(trial.held_out_wrong, wrong)
        )

    def fitted(self) -> FittedRouting:
        """Give the chosen routing."""
        chosen = self.chosen
        return FittedRouting(chosen.best.routing, chosen.subclassifiers, self.weighting)

    def fitted_as_paper(self) -> FittedRouting:
        """Give the routing that the paper would choose."""
        return FittedRouting(self.paper.paper, self.paper.subclassifiers, self.weighting)


@dataclass(frozen=True)
class RoutedTest:
    """One routing on the test split.

    Attributes:
        fitted: The routing.
        outcome: Outcome with the routing.
        is_routed: Whether each image is routed to a sub-classifier.
    """

    fitted: FittedRouting
    outcome: Outcome
    is_routed: Bool[np.ndarray, "image"]


@dataclass(frozen=True)
class SubclassifiersOnTest:
    """The three predictors that P2 compares, on images that none of them saw.

    Attributes:
        first: Outcome of the base predictor, without sub-classifiers.
        paper: Outcome with the paper's gate and routing.
        chosen: Outcome with the gate and routing that were chosen.
        control: Outcome of the base predictor with the fine-tuned member trained for as long on all
            classes; None where the settings set no control.
    """

    first: Outcome
    paper: RoutedTest
    chosen: RoutedTest
    control: Outcome | None = None
