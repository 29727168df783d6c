"""The document of a cascade: its steps, its promise, and what it does on images that it was not fitted on."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from ensemble.report.documents.diagnostics import SetsOnTest


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CascadeStep(_Document):
    """A step of a cascade."""

    member: str
    """Name of the member that the step adds."""
    weight: float
    """Weight of the member in the ensemble; 0 for one that only leads, whose answer is not counted later."""
    cost: float
    """Cost of the member for one image."""
    threshold: float | None
    """The least signal at which an image stops here; null where none stops, and at the last step."""
    exits: float
    """Share of the test images that stop here."""


class CascadeEffect(_Document):
    """What a cascade does to some images, beside the whole ensemble."""

    num_images: int
    """Number of images."""
    loss: float
    """Error rate of the cascade less that of the whole ensemble."""
    bound: float
    """Upper bound of the loss at 95 % confidence."""
    cost: float
    """Mean cost of an image."""
    speedup: float
    """Cost of the whole ensemble divided by that of the cascade."""


class CascadeSeconds(_Document):
    """What a saved cascade takes on the CPU of this machine, in seconds an image."""

    images: int
    """Number of images that were answered."""
    ensemble: float
    """Of the whole ensemble."""
    predicted: float
    """Of each step's member alone, on as many images as reach the step, by its times on batches of several sizes."""
    measured: float
    """Of the cascade."""


class CascadeReport(_Document):
    """A cascade of a finished run's ensemble."""

    schema_version: Literal[1] = 1
    """Version of this document."""
    run: str
    """Name of the run."""
    k: int
    """Errors are top-k."""
    search: str
    """The search that found the weights."""
    signal: str
    """What tells whether an answer is sure enough: confidence, margin or agreement."""
    cost_unit: str
    """Unit of all costs."""
    lose: float
    """The promise: the share of the images that may be lost to the whole ensemble."""
    steps: tuple[CascadeStep, ...]
    """The steps in order."""
    fitted: CascadeEffect
    """On the search images, each judged by thresholds that were fitted on others."""
    test: CascadeEffect
    """On the test images, which nothing was fitted on."""
    errors: dict[str, float]
    """Test error of the `cascade`, of the whole `ensemble` and of the `best` member."""
    best_member: str
    """Name of the best member on the search images."""
    best_member_cost: float
    """Cost of the best member for one image."""
    seconds: CascadeSeconds | None = None
    """Wall time of the saved cascade; null where it was not measured."""
    sets: SetsOnTest | None = None
    """Conformal sets of the saved cascade's answers, on the test images; null where it was not saved."""
    frontier: tuple[CascadeEffect, ...]
    """Other cascades of the same order on the search images, from the one that loses least to the cheapest."""
