"""What an artifact tells of itself beside its weights: origins, licences, costs, figures, golden inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ensemble.artifact.golden import Golden


@dataclass(frozen=True)
class Origin:
    """Where the weights of a member come from.

    Attributes:
        source: Origin in one line, as timm:resnet50.a1_in1k.
        licence: Licence of the weights, in words.
    """

    source: str
    licence: str


@dataclass(frozen=True)
class Figure:
    """How one predictor did on images that nothing of it was fitted on.

    Attributes:
        label: Name of the predictor.
        members: Number of members with a weight.
        errors: Errors at k, by k.
        nll: Mean negative log-likelihood of the label, in nats; None where it was not computed.
        against_best: Difference of the error rates to the best member at the first k, with the ends of
            its 95 % interval; None for the best member itself.
        is_answer: Whether the artifact answers with it.
    """

    label: str
    members: int
    errors: Mapping[int, int]
    nll: float | None
    against_best: tuple[float, float, float] | None
    is_answer: bool = False


@dataclass(frozen=True)
class About:
    """What an artifact tells of itself.

    Attributes:
        name: Name of the run that made it.
        images: Number of images that the figures are of.
        data: Where these images come from, in words.
        figures: The predictor that the artifact answers with, and those it is compared with.
        origins: Where each member comes from, by the member's name.
        costs: What each member costs an image, by the member's name, then unit; 0 where that was not
            measured.
        machine: What the costs were measured on, in words.
        golden: Golden inputs; None where no image is left to take as one.
    """

    name: str = "ensemble"
    images: int = 0
    data: str = ""
    figures: tuple[Figure, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    machine: str = ""
    golden: Golden | None = None
