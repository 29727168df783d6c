"""The parts of reports about errors: by class, confusions, reliability, agreement of members, and views."""

from typing import Annotated

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.report.documents.weights import Base64Png, Count, Difference, Finite, Fraction


class ClassErrors(Config):
    """Errors on the test images of one class."""

    label: Count
    """Class index."""
    images: Count
    """Number of test images of the class."""
    best_errors: Count
    """Errors of the best member at the report's k."""
    errors: Count
    """Errors of the recommended predictor at the report's k."""


class Confusion(Config):
    """Test images of one class that the recommended predictor answers with another."""

    label: Count
    """Class index of the images."""
    answer: Count
    """Class index of the answer."""
    images: PositiveInt
    """Number of these images."""


class ErrorsByClass(Config):
    """Where the recommended predictor errs."""

    predictor: str
    """Name of the recommended predictor."""
    best: str
    """Name of the best member."""
    classes: Annotated[tuple[ClassErrors, ...], Field(min_length=1)]
    """Every class, by index."""
    confusions: tuple[Confusion, ...]
    """The most frequent confusions, in the first answers."""

    def check_classes(self, num_classes: int) -> None:
        """Check that every class has a row, and that confusions are between classes.

        Raises:
            ValueError: The rows or the confusions are not those of so many classes.
        """
        labels = [row.label for row in self.classes]
        highest = max((max(c.label, c.answer) for c in self.confusions), default=0)
        if labels != list(range(num_classes)) or highest >= num_classes:
            raise ValueError(
                f"errors by class have {len(labels)} rows and confusions up to class index {highest}; "
                f"there are {num_classes} classes."
            )


class ReliabilityBin(Config):
    """Test images whose answers have a probability above `low` and up to `high`."""

    low: Fraction
    high: Fraction
    images: PositiveInt
    confidence: Fraction
    """Mean probability of the answers."""
    accuracy: Fraction
    """Share of the answers that are right."""


class Reliability(Config):
    """Whether answers that are sure by so much are right as often, on the test images."""

    temperature: Finite
    """Temperature of the probabilities; 1 leaves them as they are."""
    calibration_error: Fraction
    """Expected calibration error: mean distance of confidence and accuracy over the bins, by images."""
    bins: tuple[ReliabilityBin, ...]
    """Bins of equal width that hold an image."""
    risk_coverage_area: Fraction | None = None
    """Mean error rate of the surest images over all shares that may be answered (AURC): lower is better; None in
    reports of earlier versions."""


class ReliabilityAtTemperature(Config):
    """The reliability of one predictor, before and after its temperature."""

    predictor: str
    """Name of the predictor."""
    before: Reliability
    after: Reliability | None = None
    """The same at the temperature that was kept; None where none was kept."""


class SetsOnTest(Config):
    """Sets of classes that hold the label with a stated probability, on images that they were not fitted on."""

    predictor: str
    """Name of the predictor."""
    promised: Fraction
    """Least probability that the set of a new image holds its label."""
    fitted_on: PositiveInt
    """Number of search images that the threshold was fitted on."""
    images: PositiveInt
    """Number of test images."""
    coverage: Fraction
    """Share of the sets that hold the label."""
    mean_size: Finite
    """Mean number of classes of a set."""
    naive_coverage: Fraction
    """The same share where classes are taken until their probabilities add up to what is promised."""
    naive_mean_size: Finite
    """The same number for these naive sets."""


class Agreement(Config):
    """How alike the members' errors are, on images that they were not trained on."""

    images: PositiveInt
    """Number of images."""
    members: tuple[str, ...]
    """Names of the members, in pool order."""
    correlation: tuple[tuple[FiniteFloat, ...], ...]
    """Correlation of the errors at the report's k, for each pair of members."""
    disagreement: tuple[tuple[Fraction, ...], ...]
    """Share of the images that one member of a pair has right and the other has wrong."""
    effective_all: Finite
    """Number of uncorrelated members whose mean would vary as much as that of all members."""
    effective_selected: Finite
    """The same for the members with weight > 0."""
    selected: Count
    """Number of members with weight > 0."""

    @model_validator(mode="after")
    def _check_shape(self) -> "Agreement":
        for name, rows in (("correlation", self.correlation), ("disagreement", self.disagreement)):
            if [len(row) for row in rows] != [len(self.members)] * len(self.members):
                raise ValueError(
                    f"{name} has no value for each pair of {len(self.members)} members."
                )
        return self


class ViewPolicy(Config):
    """One network's errors under one policy of test-time views, on the test images."""

    member: str
    """Name of the member with these views."""
    views: str
    """Test-time views, in words."""
    num_views: PositiveInt
    relative_cost: Finite
    """Pixels of a square image that pass through the network, as a multiple of one input."""
    images: PositiveInt
    """Number of test images."""
    errors: Count
    """Errors at the report's k."""
    other_errors: Count
    """Errors at the report's other k."""
    nll: Finite
    """Mean negative log-likelihood of the label, in nats."""
    against_first: Difference | None = None
    """Difference to the policy with the least cost; None for that one."""


class NetworkByViews(Config):
    """One network under several policies of views, from the least cost to the greatest."""

    architecture: str
    seed: int | None = None
    """Seed of the training; None where the weights come from elsewhere."""
    policies: Annotated[tuple[ViewPolicy, ...], Field(min_length=2)]


class Region(Config):
    """A rectangle that a view shows, in fractions of the image; what lies outside of 0 to 1 is black."""

    left: FiniteFloat
    top: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat


class ViewsAtScale(Config):
    """The regions that a member sees of the image at one size."""

    title: str
    """The size, in words."""
    views: PositiveInt
    """Number of views."""
    mirrored: Count
    """Number of these views that are mirrored."""
    regions: Annotated[tuple[Region, ...], Field(min_length=1)]
    """The distinct regions."""


class SeenImage(Config):
    """What one member sees of one test image."""

    member: str
    views: str
    """Test-time views, in words."""
    image_id: str
    width: PositiveInt
    """Width of the image, in pixels."""
    height: PositiveInt
    """Height of the image, in pixels."""
    png_base64: Base64Png
    """The image, made smaller."""
    scales: Annotated[tuple[ViewsAtScale, ...], Field(min_length=1)]
