"""The versioned distil.json: networks that learned from an ensemble, beside it and beside what labels alone give.

Error rates are fractions, of the test split, which nothing was fitted or trained on.
"""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.curves import Curve
from ensemble.report.documents.study import BaseDifference, SeedMean

RowKey = Literal["ensemble", "best", "distilled", "fixed", "labels"]


class DistilRow(Config):
    """A predictor, or the networks of one way to train, one a seed."""

    key: RowKey
    """The ensemble; its run's best member; the network on soft labels of several views; the same recipe on labels
    alone; the network on soft labels of one unchanged view."""
    name: str
    """What it is, in words."""
    n: PositiveInt
    """Number of networks, one a seed; 1 for the ensemble and the best member."""
    error: SeedMean
    """Error at `k`."""
    nll: NonNegativeFloat
    """Mean negative log-likelihood of the label, in nats."""
    agreement: NonNegativeFloat
    """Share of images with the ensemble's answer."""
    parameters: NonNegativeInt
    """Number of parameters of all networks that answer one image; 0 where it is not known."""
    seconds: NonNegativeFloat | None
    """Measured seconds of an image, as the run's table has them; None where they were not measured. Runs at other
    hours may have measured them on a busier machine."""
    flops: NonNegativeFloat | None
    """Floating-point operations of an image under all test-time views; None where they are not known."""
    against_ensemble: BaseDifference | None = None
    """Difference of the error to the ensemble's; None for the ensemble itself."""
    against_labels: BaseDifference | None = None
    """Difference of the error to the same recipe on labels alone; None where that was not trained."""


class DistilReport(Config):
    """What came of a distillation."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    run: str
    """Name of the run whose ensemble was learned from."""
    into: str
    """The network: the name of the run's member or of the file that its recipe comes from."""
    architecture: str
    """Architecture of the network."""
    k: PositiveInt
    """A label counts as found among so many most probable classes."""
    views: PositiveInt
    """Number of stored views of each training image."""
    train_images: PositiveInt
    """Number of training images."""
    test_images: PositiveInt
    """Number of test images."""
    left_out: tuple[str, ...]
    """Settings of the recipe that no stored view can hold, and that were not used on soft labels."""
    resamples: PositiveInt
    """Number of bootstrap samples, of seeds and of images."""
    rows: tuple[DistilRow, ...]
    """The ensemble first, then the best member and the networks."""
    curves: tuple[Curve, ...] = ()
    """Trainings of the first seed of each way to train."""

    def row(self, key: RowKey) -> DistilRow | None:
        """Find a row by its key."""
        return next((row for row in self.rows if row.key == key), None)

    @property
    def saving(self) -> float | None:
        """How many times the operations of the network the ensemble needs; None where either is not known."""
        ensemble, network = self.row("ensemble"), self.row("distilled")
        assert ensemble is not None  # every report has both
        assert network is not None
        return ensemble.flops / network.flops if ensemble.flops and network.flops else None
