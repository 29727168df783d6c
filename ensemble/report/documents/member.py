"""The document of one member: what its first layer looks for, what it answers, and which images it takes for alike."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ensemble.config import Config
from ensemble.report.documents.weights import Base64Png, Count, Finite, Fraction

# Filters of a first layer are drawn together, at a size of their own.
FiltersPng = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]


class Filters(Config):
    """The filters of the first convolution of three channels, drawn as one picture."""

    layer: str
    """Name of the layer in the network."""
    count: Count
    """Number of filters."""
    height: Count
    """Height of a filter, in pixels."""
    width: Count
    """Width of a filter, in pixels."""
    png_base64: FiltersPng
    """The picture; each filter is scaled from its own smallest to its own largest weight."""


class Neighbour(Config):
    """A training image near a test image in the last hidden layer."""

    image_id: str
    label: str
    """Name of its class."""
    distance: Finite
    """Euclidean distance of the two rows of features, each scaled to length 1."""
    png_base64: Base64Png


class ShownImage(Config):
    """A test image, what the member answers, and the training images that are nearest to it."""

    image_id: str
    label: str
    """Name of its class."""
    png_base64: Base64Png
    answers: tuple[tuple[str, Fraction], ...]
    """Names of the likeliest classes and their probabilities, the likeliest first."""
    neighbours: tuple[Neighbour, ...] = ()
    """The nearest training images, the nearest first."""


class MemberReport(Config):
    """What a member has learnt.

    Source: Krizhevsky et al. 2012, Figures 3 and 4.
    """

    schema_version: Literal[1] = 1
    """Version of this format."""
    run: str
    """Name of the run."""
    name: str
    """Name of the member."""
    architecture: str
    parameters: Count
    views: str
    """Test-time views that its answers are averaged over, in words."""
    filters: Filters | None
    """The filters of its first layer; None where it has no convolution of three channels."""
    images: tuple[ShownImage, ...]
    """Test images, drawn evenly by class and not by what is answered."""
    searched_images: Count
    """Number of training images that the nearest ones were looked for among."""
    left_out: tuple[str, ...] = Field(default=())
    """A sentence for each part that the member does not have."""
