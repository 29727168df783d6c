"""Findings: all that the stages of a run hand to its report and its artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ensemble.evaluation.outcome import Outcome
from ensemble.images.shard import BadImage
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.outranking.table import OutrankingTable
from ensemble.report.documents.run import ResultKey
from ensemble.search.comparison import Predictor
from ensemble.search.fallbacks import Fallback
from ensemble.search.outcome import SearchOutcome
from ensemble.search.result import Ensemble
from ensemble.search.weights import best_member
from ensemble.subclassifiers.answers import CalibrationOnTest
from ensemble.subclassifiers.findings import Subclassified, SubclassifiersOnTest
from ensemble.subclassifiers.settings import SubclassifiersConfig


@dataclass(frozen=True)
class AmongAllOutputs:
    """How a member errs whose label map leaves some of its outputs out, on the same test images.

    Attributes:
        outputs: Number of the network's outputs.
        among_classes: Outcome among the classes of the data.
        among_all: Outcome among all outputs.
    """

    outputs: int
    among_classes: Outcome
    among_all: Outcome

    def describe(self, name: str, classes: int, k: int) -> str:
        """Tell both errors in a sentence."""
        n = len(self.among_all.ranks)
        return (
            f"{name}: its label map names {classes:,} of its {self.outputs:,} outputs. On {n:,} test images "
            f"its top-{k} error is {self.among_classes.errors(k) / n:.2%} among these classes, which is what "
            f"this report compares, and {self.among_all.errors(k) / n:.2%} among all {self.outputs:,} outputs."
        )


@dataclass(frozen=True)
class Findings:
    """All that the stages of a run hand to its report and its artifact.

    Attributes:
        splits: The images of each split, without those that were left out.
        bad: Images that were left out, and why.
        members: The pool.
        outcome: What the search found by the outranking table alone.
        outranking: Outranking table of the search split.
        notes: What a reader should know first, in sentences.
        among_all: Errors among all outputs of the members whose label map leaves some out, by name in
            the config.
        costs: What each member and each sub-classifier costs an image, by name, then unit; 0 where that
            was not measured.
        search: Outcome of each member on the search split, by name.
        test: Outcomes on the test split: of each member by its name, of each predictor but the best
            member by its key, and of each point of the frontier by `frontier_key`.
        calibration: Temperature of the recommended predictor; None where there were too few images to
            fit one.
        subclassifiers: Label clusters, sub-classifiers and routings; None in a run without them.
        routed: Outcomes with sub-classifiers on the test split; None in a run without them.
        subclassifier_settings: Settings of the sub-classifiers; None in a run without them.
        cost_unit: Unit of the members' costs; None where costs do not count.
    """

    splits: Splits
    bad: tuple[BadImage, ...]
    members: tuple[Member, ...]
    outcome: SearchOutcome
    outranking: OutrankingTable
    search: dict[str, Outcome]
    test: dict[str, Outcome]
    calibration: CalibrationOnTest | None = None
    subclassifiers: Subclassified | None = None
    routed: SubclassifiersOnTest | None = None
    subclassifier_settings: SubclassifiersConfig | None = None
    cost_unit: str | None = None
    notes: tuple[str, ...] = ()
    among_all: Mapping[str, AmongAllOutputs] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def best(self) -> Member:
        """The best single member on the search split, by what the search lowers."""
        return self.members[best_member(self.outranking, self.outcome.settings)]

    @property
    def ensemble(self) -> Ensemble:
        """Weights of the members."""
        return self.outcome.ensemble

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """Weights for the loss of a member, over others that have a weight.

        They are weights of the answer: a base predictor of sub-classifiers that has other weights has no
        use for them.
        """
        subclassified = self.subclassifiers if self.is_routing else None
        answer = self.answer.ensemble.weighting
        is_other = subclassified is not None and not subclassified.weighting.equals(answer)
        return () if is_other else self.outcome.fallbacks

    @property
    def is_routing(self) -> bool:
        """Whether sub-classifiers lower the errors on held-out search images."""
        return self.subclassifiers is not None and self.subclassifiers.is_used

    @property
    def answer(self) -> Predictor:
        """The row of the comparison that the artifact answers with before any routing."""
        return self.outcome.answer

    @property
    def answering_key(self) -> ResultKey:
        """Key of the result that the artifact answers with."""
        return "ensemble_subclassifiers" if self.is_routing else self.answer.key

    @property
    def recommended_key(self) -> ResultKey:
        """Key of the result that is recommended."""
        if self.subclassifiers is not None and self.subclassifiers.is_recommended:
            return "ensemble_subclassifiers"
        return self.outcome.recommendation.key


def frontier_key(number: int) -> str:
    """Name the outcome of a point of the frontier."""
    return f"frontier {number}"
