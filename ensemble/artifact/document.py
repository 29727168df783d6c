"""What `ensemble.json` of an artifact says, as values: classes, members, weights and routing."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from ensemble.cascade.steps import Signal, Steps, with_lead
from ensemble.config import Config
from ensemble.errors import CheckpointError, UnknownNameError
from ensemble.members.settings import Precision
from ensemble.outranking.combine import Combine
from ensemble.subclassifiers.settings import GateKind, RoutingKind
from ensemble.views.settings import Views

FILE_NAME = "ensemble.json"
"""Name of the document in the folder of an artifact."""

PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NetworkEntry(Config):
    """A network over all classes, with a name of its own."""

    name: str
    file: str
    sha256: str
    views: Views
    precision: Precision = "float32"
    """Precision of the member's weights and activations; float32 where version 1 leaves it out."""
    temperature: PositiveFinite = 1.0
    """Temperature of the member's probabilities in the average."""
    source: str = ""
    """Origin of the weights, as timm:resnet50.a1_in1k; empty where it is not known."""
    licence: str = ""
    """Licence of the weights; empty where it is not known."""


class MemberEntry(NetworkEntry):
    """A member with a weight."""

    weight_units: PositiveInt


class SubclassifierEntry(Config):
    """A sub-classifier of the classes of one label cluster."""

    classes: tuple[NonNegativeInt, ...]
    file: str
    sha256: str
    views: Views
    precision: Precision = "float32"
    """Precision of the sub-classifier's weights and activations."""


class RoutingEntry(Config):
    """A gate, a routing, and the sub-classifiers behind them."""

    threshold: FiniteFloat
    gate: GateKind = "entropy"
    coefficients: tuple[FiniteFloat, ...] = ()
    kind: RoutingKind = "hard"
    clusters: tuple[tuple[NonNegativeInt, ...], ...] = ()
    """All label clusters; those of the sub-classifiers, in their order, where the list is empty."""
    subclassifiers: tuple[SubclassifierEntry, ...] = Field(min_length=1)

    @property
    def label_clusters(self) -> tuple[tuple[int, ...], ...]:
        """Classes of every label cluster."""
        return self.clusters or tuple(sub.classes for sub in self.subclassifiers)


class FallbackEntry(Config):
    """Weights of the other members for the loss of one."""

    missing: str
    weight_units: dict[str, PositiveInt] = Field(min_length=1)
    scale: PositiveFinite = 1.0
    """What a mean of logarithms is multiplied by at these weights."""


class CascadeStepEntry(Config):
    """A step of a cascade."""

    member: str
    """Name of the member that the step adds."""
    threshold: FiniteFloat | None
    """The least signal at which an image stops here; null where none does, and at the last step."""


class CascadeEntry(Config):
    """The order in which members answer, and how sure the answer is with which an image stops."""

    signal: Signal
    """What tells how sure an answer is."""
    steps: tuple[CascadeStepEntry, ...] = Field(min_length=1)
    lead: NetworkEntry | None = None
    """The first step's member where it has no weight; its answer is not counted later."""

    def steps_over(self, members: Sequence[MemberEntry]) -> Steps:
        """Give the steps over the members of a document."""
        names = [entry.name for entry in with_lead(members, self.lead)]
        thresholds = [np.inf if step.threshold is None else step.threshold for step in self.steps]
        return Steps(
            tuple(names.index(step.member) for step in self.steps),
            self.signal,
            np.array([*thresholds[:-1], -np.inf]),
        )


class ConformalEntry(Config):
    """Sets of classes that hold the label of a new image with a stated probability."""

    coverage: Annotated[float, Field(gt=0, lt=1)]
    """Least probability that the set of a new image holds its label."""
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    """What probabilities, and what each class costs, add up to in a set; null where every class belongs to it."""
    images: PositiveInt
    """Number of the images that it was fitted on."""


class ArtifactDocument(Config):
    """Everything that `ensemble.json` says."""

    schema_version: Literal[1, 2, 3, 4, 5] = 5
    """Version 2 says the precision of each member, version 3 what the weights are of, version 4 where
    members come from and with which versions of libraries they were run, version 5 the steps of a cascade, and
    conformal sets."""
    classes: tuple[str, ...]
    data_sha256: str
    search: str
    members: tuple[MemberEntry, ...] = Field(min_length=1)
    combine: Combine = "probabilities"
    """What the weights are of: probabilities, or their logarithms, of whose mean a softmax is taken."""
    scale: PositiveFinite = 1.0
    """What a mean of logarithms is multiplied by before the softmax; it changes no order."""
    routing: RoutingEntry | None = None
    fallbacks: tuple[FallbackEntry, ...] = ()
    temperature: PositiveFinite = 1.0
    """Temperature of the ensemble's probabilities; the order of classes does not depend on it."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that a forward pass depends on, by name; empty before version 4."""
    golden: NonNegativeInt = 0
    """Number of golden inputs in the folder `golden`."""
    cascade: CascadeEntry | None = None
    """Steps of a cascade; null where every image is answered by all members."""
    conformal: ConformalEntry | None = None
    """Sets that every answer has; null where answers have none."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files of the members and sub-classifiers, relative to the folder."""
        subclassifiers = self.routing.subclassifiers if self.routing else ()
        return (*(n.file for n in self.networks), *(s.file for s in subclassifiers))

    @property
    def networks(self) -> tuple[NetworkEntry, ...]:
        """The members, and the lead of a cascade."""
        return with_lead(self.members, self.cascade.lead if self.cascade else None)

    @model_validator(mode="after")
    def _check_fallbacks(self) -> "ArtifactDocument":
        names = {member.name for member in self.members}
        for fallback in self.fallbacks:
            mentioned = {fallback.missing, *fallback.weight_units}
            if not mentioned <= names or fallback.missing in fallback.weight_units:
                raise ValueError(
                    f"the weights without {fallback.missing!r} are of {sorted(mentioned)}; expected "
                    f"other members of {sorted(names)}."
                )
        return self

    @model_validator(mode="after")
    def _check_cascade(self) -> "ArtifactDocument":
        if self.cascade is None:
            return self
        lead, names = self.cascade.lead, [member.name for member in self.members]
        steps = [step.member for step in self.cascade.steps]
        first = [lead.name] if lead else []
        if steps[: len(first)] != first or sorted(steps) != sorted([*first, *names]):
            raise ValueError(
                f"the steps of the cascade are {steps}; expected {first + names}, each once, and a lead first."
            )
        if self.cascade.steps[-1].threshold is not None:
            raise ValueError(
                f"the last step of the cascade has the threshold {self.cascade.steps[-1].threshold}; expected null: "
                "every image stops there."
            )
        if self.routing is not None:
            raise ValueError(
                "it has both a cascade and sub-classifiers; expected one of them at most."
            )
        return self


def document_without(document: ArtifactDocument, name: str) -> ArtifactDocument:
    """Leave a member out, and give the others the weights that were fitted for its loss.

    A cascade and conformal sets are left out, too: their thresholds were fitted with that member. Without the
    lead of a cascade all weights stay.

    Raises:
        UnknownNameError: No member has this name.
        CheckpointError: The document has no weights for the loss of this member.
    """
    if document.cascade and document.cascade.lead and document.cascade.lead.name == name:
        return document.model_copy(update={"cascade": None, "conformal": None})
    fallback = fallback_for(
        name,
        [entry.name for entry in document.members],
        {fallback.missing: fallback for fallback in document.fallbacks},
    )
    members = tuple(
        entry.model_copy(update={"weight_units": fallback.weight_units[entry.name]})
        for entry in document.members
        if entry.name in fallback.weight_units
    )
    update = {"members": members, "fallbacks": (), "scale": fallback.scale}
    update |= {"cascade": None, "conformal": None}
    return document.model_copy(update=update)


def fallback_for(
    name: str, names: Sequence[str], fallbacks: Mapping[str, FallbackEntry]
) -> FallbackEntry:
    """Give the weights of the other members for the loss of one.

    Args:
        name: The member that is lost.
        names: All members.
        fallbacks: Fallbacks by the member that is lost.

    Raises:
        UnknownNameError: No member has this name.
        CheckpointError: There are no weights for the loss of this member.
    """
    if name not in names:
        raise UnknownNameError.of("member of the ensemble", name, names)
    if name not in fallbacks:
        raise CheckpointError(
            f"the ensemble of {', '.join(names)} has no weights for the loss of {name!r}. They "
            "are fitted by a run that selects two members or more; run it again."
        )
    return fallbacks[name]
