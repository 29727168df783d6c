"""The versioned report.json: every figure of a run, and the only source of its page.

Error rates are fractions (0.019 is 1.9 %), negative log-likelihoods and entropies are in nats. What
may differ between two runs of one configuration is in `Execution` and nowhere else.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.report.documents.curves import Curve
from ensemble.report.documents.diagnostics import (
    Agreement,
    ErrorsByClass,
    NetworkByViews,
    ReliabilityAtTemperature,
    SeenImage,
    SetsOnTest,
)
from ensemble.report.documents.provenance import Data, Execution, Identity
from ensemble.report.documents.subclassifiers import Subclassifiers
from ensemble.report.documents.weights import (
    Base64Png,
    Cost,
    Count,
    Difference,
    Fallback,
    Finite,
    Fraction,
    Recommendation,
    Search,
)
from ensemble.search.settings import PredictorKey

ResultKey = PredictorKey | Literal["ensemble_subclassifiers"]


class Score(Config):
    """Errors and NLL of one predictor on one split; `Score.of` makes it from counts."""

    n: PositiveInt
    """Number of images in the split."""
    top1_errors: Count
    """Images whose label is not the most probable class."""
    top1_error: Fraction
    """Rate of the top-1 errors."""
    topk_errors: Count
    """Images whose label is not among the report's `top_k` most probable classes."""
    topk_error: Fraction
    """Rate of the top-k errors."""
    nll: Finite
    """Mean negative log-likelihood of the label, in nats."""

    @classmethod
    def of(cls, n: int, top1_errors: int, topk_errors: int, nll: float) -> "Score":
        """Make a score from counts; the rates follow from them."""
        return cls(
            n=n,
            top1_errors=top1_errors,
            top1_error=top1_errors / n,
            topk_errors=topk_errors,
            topk_error=topk_errors / n,
            nll=nll,
        )

    @model_validator(mode="after")
    def _check_rates(self) -> "Score":
        for k, errors, rate in (
            ("1", self.top1_errors, self.top1_error),
            ("k", self.topk_errors, self.topk_error),
        ):
            if not math.isclose(rate, errors / self.n, abs_tol=1e-9):
                raise ValueError(
                    f"top-{k}: {errors} errors of {self.n} are not a rate of {rate}; use Score.of."
                )
        return self


class AmongAllOutputs(Config):
    """Errors of a member whose label map leaves some of its outputs out, on the same test images."""

    outputs: PositiveInt
    """Number of the network's outputs."""
    n: PositiveInt
    """Number of test images; a sample of a large test split."""
    errors_among_classes: Count
    """Errors at the report's k among the classes of the data."""
    errors_among_all: Count
    """Errors at the report's k among all outputs."""


class Member(Config):
    """One classifier of the pool, as run, and its weight in the ensemble."""

    name: str
    architecture: str
    seed: int | None = None
    parameters: Count
    flops: Finite | None = None
    """Floating-point operations of an image under all views; None where they were not counted."""
    depth: Count | None = None
    """Weighted layers on the longest path of the network; None where they were not counted."""
    views: str
    """Test-time views, in words."""
    num_views: PositiveInt
    weight: Finite
    """Weight in the ensemble; weights need not sum to 1, and 0 leaves the member out."""
    selected: bool
    search: Score
    test: Score
    among_all: AmongAllOutputs | None = None
    """Both errors of a member whose label map leaves outputs out; None for all others."""

    @model_validator(mode="after")
    def _check_weight(self) -> "Member":
        if self.selected != (self.weight > 0):
            raise ValueError(
                f"member {self.name!r}: selected is {self.selected} with weight {self.weight}; "
                "a member is selected exactly when its weight is above 0."
            )
        return self


class Result(Config):
    """One predictor on the test split, beside the best single member."""

    key: ResultKey
    label: str
    members: PositiveInt
    """Number of members with a weight."""
    score: Score
    against_best: Difference | None = None
    """Difference to the best member; None for the best member itself."""
    against_uniform: Difference | None = None
    """Difference to the plain average of all members; None for that average itself."""
    chosen: bool = False
    """Whether the run recommends this predictor; decided on the search split, never on the test split."""
    answers: bool = False
    """Whether the artifact answers with this predictor: the recommended one, unless the settings name a search."""

    @model_validator(mode="after")
    def _check_difference(self) -> "Result":
        for d in (self.against_best, self.against_uniform):
            if d and not math.isclose(
                d.difference, (d.broken - d.fixed) / self.score.n, abs_tol=1e-9
            ):
                raise ValueError(
                    f"{self.key}: a difference of {d.difference} is not {d.broken} broken less "
                    f"{d.fixed} fixed of {self.score.n} images."
                )
        return self


class Answer(Config):
    """Probabilities of one predictor for one image, and its answer."""

    name: str
    answer: Count
    probabilities: tuple[Fraction, ...]


class Example(Config):
    """A test image that one of two predictors has right and the other has wrong."""

    image_id: str
    label: Count
    png_base64: Base64Png
    before: Answer
    after: Answer
    kind: Literal["fixed", "broken"]


class Calibration(Config):
    """A temperature for the probabilities of the recommended predictor."""

    temperature: Finite
    """The temperature; 1 where none lowers the NLL of search images that it was not fitted on."""
    is_kept: bool
    search_images: Count
    search_nll_before: Finite
    search_nll_after: Finite
    """NLL of search images at temperatures fitted on the other half of them."""
    test_nll_before: Finite
    test_nll_after: Finite


class Report(Config):
    """Every figure of a run. The page is made from this and nothing else."""

    schema_version: Literal[1] = 1
    name: str
    identity: Identity
    data: Data
    top_k: PositiveInt
    """k of the top-k errors, which are reported beside the top-1 errors; `k` where that is above 1."""
    k: PositiveInt = 1
    """The k at which predictors are compared: intervals, tests, examples and drawings are of top-k errors."""
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    search: Search
    recommendation: Recommendation | None = None
    """Which predictor to use; None in reports of earlier versions."""
    results: tuple[Result, ...]
    costs: tuple[Cost, ...] = ()
    """Cost of the best member, of the selected members, of all, and of what is recommended."""
    fallbacks: tuple[Fallback, ...] = ()
    """Weights for the loss of each member of the artifact; empty where sub-classifiers have another base."""
    calibration: Calibration | None = None
    reliability: ReliabilityAtTemperature | None = None
    """Reliability of what the artifact answers; None in reports of earlier versions."""
    sets: SetsOnTest | None = None
    """Conformal sets of the answers on the test images; None where there are none, or in earlier reports."""
    errors_by_class: ErrorsByClass | None = None
    """Errors by class, and confusions; None in reports of earlier versions."""
    agreement: Agreement | None = None
    """How alike the members' errors are; None in reports of earlier versions, and for a single member."""
    networks_by_views: tuple[NetworkByViews, ...] = ()
    """Networks that are members under several policies of views."""
    seen_image: SeenImage | None = None
    """What a member with several views sees of an image; None where there is none, or where examples are off."""
    curves: tuple[Curve, ...] = ()
    """Epochs of the trainings of members and sub-classifiers; empty in reports of earlier versions."""
    subclassifiers: Subclassifiers | None = None
    examples: tuple[Example, ...] = ()
    execution: Execution

    @property
    def best(self) -> Result:
        """The best single member, with which every other result is compared."""
        return next(result for result in self.results if result.key == "best")

    @property
    def chosen(self) -> Result:
        """The predictor that the run recommends."""
        return next(result for result in self.results if result.chosen)

    @property
    def answering(self) -> Result:
        """The predictor that the artifact answers with."""
        return next((result for result in self.results if result.answers), self.chosen)

    def errors(self, score: Score) -> int:
        """Give the errors at the report's k."""
        return score.top1_errors if self.k == 1 else score.topk_errors

    def error(self, score: Score) -> float:
        """Give the rate of errors at the report's k."""
        return self.errors(score) / score.n

    @property
    def other_k(self) -> int:
        """The k of the errors that are shown beside those at the report's k."""
        return self.top_k if self.k == 1 else 1

    def other_error(self, score: Score) -> float:
        """Give the rate of errors at the other k."""
        return score.topk_error if self.k == 1 else score.top1_error

    def reproducible(self) -> dict[str, Any]:
        """Return, as JSON values, all that two runs of one configuration must agree on."""
        return self.model_dump(mode="json", exclude={"execution"})

    @model_validator(mode="after")
    def _check_names(self) -> "Report":
        _check_unique("member", (member.name for member in self.members))
        _check_unique("result", (result.key for result in self.results))
        unknown = {step.member for step in self.search.steps} - {m.name for m in self.members}
        if unknown:
            raise ValueError(f"search steps of {sorted(unknown)}, which are not members.")
        return self

    @model_validator(mode="after")
    def _check_results(self) -> "Report":
        if [result.chosen for result in self.results].count(True) != 1:
            raise ValueError("exactly one result is chosen; set `chosen` on it.")
        if self.k not in (1, self.top_k):
            raise ValueError(f"k is {self.k}, and scores have top-1 and top-{self.top_k} errors.")
        without = [result.key for result in self.results if result.against_best is None]
        if without != ["best"]:
            raise ValueError(
                f"results without `against_best` are {without}; expected ['best']: every other "
                "result is compared with it."
            )
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> "Report":
        num_classes = len(self.data.classes)
        for example in self.examples:
            answers = (example.before, example.after)
            lengths = {len(answer.probabilities) for answer in answers}
            highest = max(example.label, *(answer.answer for answer in answers))
            if lengths != {num_classes} or highest >= num_classes:
                raise ValueError(
                    f"example {example.image_id!r}: {sorted(lengths)} probabilities and class "
                    f"index {highest}; there are {num_classes} classes."
                )
        return self

    @model_validator(mode="after")
    def _check_errors_by_class(self) -> "Report":
        if self.errors_by_class is not None:
            self.errors_by_class.check_classes(len(self.data.classes))
        return self

    @model_validator(mode="after")
    def _check_clusters(self) -> "Report":
        if self.subclassifiers is not None:
            self.subclassifiers.check_classes(len(self.data.classes))
        return self


def _check_unique(kind: str, names: Iterable[str]) -> None:
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise ValueError(f"{kind} names stand twice: {duplicates}; each must be unique.")
