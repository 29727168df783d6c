"""What `ensemble.json` of an artifact says, as values."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.errors import CheckpointError, UnknownNameError
from ensemble.members.settings import Precision
from ensemble.subclassifiers.settings import GateKind, RoutingKind
from ensemble.views.settings import Views

PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MemberEntry(Config):
    """A member with a weight."""

    name: str
    file: str
    sha256: str
    weight_units: PositiveInt
    views: Views
    precision: Precision = "float32"
    """Of its weights and activations; version 1 does not say it, and predicts in float32."""
    temperature: PositiveFinite = 1.0
    """Of its probabilities in the average."""


class SubclassifierEntry(Config):
    """A sub-classifier."""

    classes: tuple[NonNegativeInt, ...]
    file: str
    sha256: str
    views: Views
    precision: Precision = "float32"
    """As of a member."""


class RoutingEntry(Config):
    """Gate, routing, and whom they lead to."""

    threshold: FiniteFloat
    gate: GateKind = "entropy"
    coefficients: tuple[FiniteFloat, ...] = ()
    kind: RoutingKind = "hard"
    clusters: tuple[tuple[NonNegativeInt, ...], ...] = ()
    """Those of the sub-classifiers, in their order, if there are no others."""
    subclassifiers: tuple[SubclassifierEntry, ...] = Field(min_length=1)


class FallbackEntry(Config):
    """Weights for the loss of one member."""

    missing: str
    weight_units: dict[str, PositiveInt] = Field(min_length=1)


class ArtifactDocument(Config):
    """All of it."""

    schema_version: Literal[1, 2] = 2
    """Version 2 says the precision of each member."""
    classes: tuple[str, ...]
    data_sha256: str
    search: str
    members: tuple[MemberEntry, ...] = Field(min_length=1)
    routing: RoutingEntry | None = None
    fallbacks: tuple[FallbackEntry, ...] = ()
    temperature: PositiveFinite = 1.0
    """Of the probabilities that it answers with; the order of classes does not depend on it."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it names."""
        subclassifiers = self.routing.subclassifiers if self.routing else ()
        return (*(m.file for m in self.members), *(s.file for s in subclassifiers))

    @model_validator(mode="after")
    def _check_fallbacks(self) -> "ArtifactDocument":
        names = {member.name for member in self.members}
        for fallback in self.fallbacks:
            named = {fallback.missing, *fallback.weight_units}
            if not named <= names or fallback.missing in fallback.weight_units:
                raise ValueError(
                    f"the weights without {fallback.missing!r} are of {sorted(named)}; expected "
                    f"other members of {sorted(names)}."
                )
        return self


def document_without(document: ArtifactDocument, name: str) -> ArtifactDocument:
    """Leave a member out, and give the others the weights found for its loss.

    Raises:
        UnknownNameError: There is no such member.
        CheckpointError: There are no weights for its loss.
    """
    weights = weights_without(
        name,
        [entry.name for entry in document.members],
        {fallback.missing: fallback.weight_units for fallback in document.fallbacks},
    )
    members = tuple(
        entry.model_copy(update={"weight_units": weights[entry.name]})
        for entry in document.members
        if entry.name in weights
    )
    return document.model_copy(update={"members": members, "fallbacks": ()})


def weights_without(
    name: str, names: Sequence[str], fallbacks: Mapping[str, Mapping[str, int]]
) -> Mapping[str, int]:
    """Give the weights of the others, units; raises as `document_without` does."""
    if name not in names:
        raise UnknownNameError.of("member of the ensemble", name, names)
    if name not in fallbacks:
        raise CheckpointError(
            f"the ensemble of {', '.join(names)} has no weights for the loss of {name!r}. They "
            "are found by a run that selects two members or more; run it again."
        )
    return fallbacks[name]
