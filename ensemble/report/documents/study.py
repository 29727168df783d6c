"""The versioned study.json: the rows of every stage of a study, with their statistics.

Error rates are fractions. Winners are chosen on the validation split; the test split chooses nothing.
"""

from typing import Literal

from pydantic import Field, FiniteFloat, NonNegativeFloat, NonNegativeInt, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.curves import Curve
from ensemble.report.documents.subclassifiers import ClusteredLabels
from ensemble.report.documents.weights import Fraction


class SeedMean(Config):
    """Mean over the networks of a row, one a seed."""

    mean: Fraction
    """Mean error rate."""
    sd: NonNegativeFloat | None
    """Standard deviation of the sample; None for a single network."""


class BaseDifference(Config):
    """Difference of a row's error to that of the base, paired by seed and image, on the test split."""

    difference: FiniteFloat
    """Error of the row minus that of the base; the row is better where it is negative."""
    low: FiniteFloat
    """Lower end of the bootstrap interval over seeds and images."""
    high: FiniteFloat
    """Upper end of that interval."""
    level: Fraction
    """Confidence level of the interval, as 0.95."""
    detectable: NonNegativeFloat
    """Smallest difference that a study like this one would find in four of five repetitions."""


class StudyRow(Config):
    """The networks of one variant."""

    name: str
    """Name of the row; `base` is what the others are compared with."""
    architecture: str
    """Name of the architecture."""
    settings: dict[str, str]
    """Settings of the row that differ from the base, by name."""
    parameters: PositiveInt
    """Number of parameters of a network."""
    n: NonNegativeInt
    """Number of networks that were trained, one a seed."""
    reason: str | None = None
    """Why the row has no figures; None where it has."""
    average_of: dict[str, PositiveInt] = Field(default_factory=dict)
    """Numbers of networks, by their row, that each average of this row is of, where it is one of averages; `n` then
    counts averages that share no network, and such a row cannot win."""
    adds_validation: bool = False
    """Whether the networks were trained on the validation split too, so that the row cannot win."""
    validation: SeedMean | None = None
    """Error on the validation split, which chooses; None for a row that was trained on it."""
    test: SeedMean | None = None
    """Error on the test split, which does not."""
    seconds: NonNegativeFloat | None = None
    """Mean seconds of a network's training."""
    against_base: BaseDifference | None = None
    """Difference to the base; None for the base itself."""
    chosen_share: Fraction | None = None
    """Share of bootstrap samples of the validation split in which this row has the lowest error; None for a row that
    cannot win."""
    is_winner: bool = False
    """Whether the row has the lowest validation error of its stage."""


class SeedValue(Config):
    """Mean of a value that is no share, over the networks of a row."""

    mean: FiniteFloat
    """Mean."""
    sd: NonNegativeFloat | None
    """Standard deviation of the sample; None for a single network."""


class StudyClusters(Config):
    """The sub-classifiers of one row: accuracies over the test images, each by the label cluster of its own class.

    Source: P2, Tables 3 to 5.
    """

    num_clusters: PositiveInt
    """Number of label clusters."""
    base: SeedMean
    """Top-1 accuracy of the base among all classes."""
    restricted: SeedMean
    """Top-1 accuracy of the base among the classes of the label cluster alone."""
    sub: SeedMean
    """Top-1 accuracy of the sub-classifiers."""
    top_k: PositiveInt
    """k of the other accuracies."""
    restricted_topk: SeedMean
    """Top-k accuracy of the base among the classes of the label cluster alone."""
    sub_topk: SeedMean
    """Top-k accuracy of the sub-classifiers."""
    routed_share: SeedMean
    """Share of the test images that the gate routes to a sub-classifier."""
    adjusted_rand: SeedValue | None = None
    """Adjusted Rand index with the known groups of classes: 1 for the same, 0 for the agreement of chance."""
    mutual_information: SeedValue | None = None
    """Normalised mutual information with these groups, from 0 to 1; above 0 by chance, more so with more label
    clusters."""
    seeds: tuple[ClusteredLabels, ...]
    """The label clusters of each seed's base, in the order of the seeds."""


class StudyStage(Config):
    """One table of a study."""

    name: str
    """Name of the stage."""
    keeps_base: bool
    """Whether the next stage has the same base, whichever row wins."""
    rows: tuple[StudyRow, ...]
    """The base, and then the variants."""
    curves: tuple[Curve, ...] = ()
    """Trainings of the first seed of each row."""
    clusters: tuple[StudyClusters, ...] = ()
    """What label clusters and sub-classifiers are like, where the rows are sub-classifiers."""
    groups: tuple[str, ...] = ()
    """Names of the known groups of classes that label clusters are compared with."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by index, where there are label clusters."""

    @property
    def winner(self) -> StudyRow:
        """The row with the lowest validation error."""
        return next(row for row in self.rows if row.is_winner)


class StudyReport(Config):
    """What a study found."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    name: str
    """Name of the study."""
    scale: str | None
    """Scale of the study; None for the full size."""
    images: str
    """What the images are."""
    validation_images: PositiveInt
    """Number of images of the validation split."""
    test_images: PositiveInt
    """Number of images of the test split."""
    seeds: PositiveInt
    """Number of networks for each row."""
    max_parameters: PositiveInt | None
    """Largest number of parameters of a network; None without a bound."""
    k: PositiveInt = 1
    """An image counts as an error where its label is not among the k highest classes."""
    resamples: PositiveInt
    """Number of bootstrap samples."""
    stages: tuple[StudyStage, ...]
    """The stages, in order."""
