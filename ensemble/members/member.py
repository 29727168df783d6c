"""A member: a classifier whose weights are there, what identifies its predictions, and its split into views."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ensemble.errors import ConfigError
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import Precision, Preprocessing
from ensemble.views.policies import list_views
from ensemble.views.settings import Views, keeps_views

# Architectures whose arithmetic is part of their file, and stays as it was exported.
PROGRAMS = ("onnx", "pt2")

# Joins the names of a member and a view. A name in a config has no such character, so that no
# member is called like another's view.
VIEW_MARK = "@"


@dataclass(frozen=True)
class Member:
    """A classifier whose weights are there.

    Attributes:
        name: Name in reports and tables; not part of the identity.
        architecture: Name of an architecture of `ensemble.models`, or of a library, as
            torchvision/resnet50, or the kind of a program (onnx, pt2).
        classes: Class index of the data that each output stands for.
        checkpoint: File of the weights.
        weights_sha256: SHA-256 of the file of the weights.
        head: Name of the last linear layer, whose rows are the label embeddings; empty if there is
            none.
        parameters: Number of parameters.
        preprocessing: How pixels become the network's input.
        views: Test-time views, averaged to one row per image.
        data_sha256: Identity of the image index that is predicted.
        seed: Seed of the training; None if the weights come from elsewhere.
        precision: Precision of the weights and activations when the member predicts.
        temperature: Temperature of the probabilities in an average. Not part of the identity,
            because a column holds the probabilities at temperature 1.
        kept_from: The views that the member's one was kept out of; None where it is the whole of a network.
            Not part of the identity.
    """

    name: str
    architecture: str
    classes: tuple[int, ...]
    checkpoint: Path
    weights_sha256: str
    head: str
    parameters: int
    preprocessing: Preprocessing
    views: Views
    data_sha256: str
    seed: int | None = None
    precision: Precision = "float32"
    temperature: float = 1.0
    kept_from: Views | None = None

    @cached_property
    def column(self) -> str:
        """Identity of what this member computes, in 16 hexadecimal digits.

        A rename keeps it. Other weights, preprocessing, views, images or numeric libraries change it.
        """
        return fingerprint(self.identity)[:16]

    @property
    def pool_name(self) -> str:
        """Name in the config, which the views of a member share where each is a member of its own."""
        return self.name.partition(VIEW_MARK)[0]

    @property
    def network_name(self) -> str:
        """Name of the network that predicts it, which kept views share."""
        return self.name if self.kept_from is None else self.pool_name

    @property
    def identity(self) -> dict[str, object]:
        """Everything that the column's fingerprint covers."""
        return {
            "architecture": self.architecture,
            "classes": list(self.classes),
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "views": self.views.model_dump(mode="json"),
            "precision": self.precision,
            "data_sha256": self.data_sha256,
            "libraries": library_versions(self.architecture),
        }


def in_precision(member: Member, precision: Precision) -> Member:
    """Copy a member with another precision of weights and activations.

    Raises:
        ConfigError: The member is a program, whose precision cannot be changed, and `precision` is not
            float32.
    """
    if precision != "float32" and member.architecture in PROGRAMS:
        raise ConfigError(
            f"the member {member.name!r} is a program ({member.architecture}) and cannot be run in "
            f"{precision}: it takes float32 and computes in what it was exported in. Set "
            "precision: float32 for this member."
        )
    return replace(member, precision=precision)


def split_views(member: Member) -> tuple[Member, ...]:
    """Split a member with `keep_views` into one member for each view; any other is returned alone.

    The members share the checkpoint, which a process loads once.
    """
    if not keeps_views(member.views):
        return (member,)
    return tuple(
        replace(member, name=name, views=view, kept_from=member.views)
        for name, view in zip(
            view_names(member.name, member.views, member.preprocessing.size),
            list_views(member.views, member.preprocessing.size),
            strict=True,
        )
    )


def by_network(members: Iterable[Member]) -> list[tuple[Member, tuple[Member, ...]]]:
    """Put the views together that one network predicts; undo `split_views`.

    Returns:
        Each network in the order of its first member, as a member with all of its views, and its members
        among the given ones. A member that is no kept view is its own network.
    """
    networks: dict[Member, list[Member]] = {}
    for member in members:
        network = member
        if member.kept_from is not None:
            network = replace(
                member,
                name=member.network_name,
                views=member.kept_from,
                kept_from=None,
                temperature=1.0,
            )
        networks.setdefault(network, []).append(member)
    return [(network, tuple(views)) for network, views in networks.items()]


def view_names(name: str, views: Views, size: int) -> tuple[str, ...]:
    """List the names of the members that `split_views` makes: NAME, or NAME@VIEW for each view.

    Args:
        name: Name of the member in the config.
        views: Test-time views of the member.
        size: Side of the network's input, in pixels.
    """
    if not keeps_views(views):
        return (name,)
    return tuple(f"{name}{VIEW_MARK}{view.label}" for view in list_views(views, size))
