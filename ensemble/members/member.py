"""ensemble / members / member: say here what this file is responsible for."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ensemble.errors import ConfigError
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import Precision, Preprocessing
from ensemble.views.policies import list_views
from ensemble.views.settings import Views, keeps_views

# Architectures whose arithmetic is inside their file, and stays as it was exported.
PROGRAMS = ("onnx", "pt2")


# Not allowed in a config's names, so that no member is called like another's view.
VIEW_MARK = "@"


@dataclass(frozen=True)
class Member:
    """A classifier whose weights are there.

    Attributes:
        name: What reports call it; not part of its identity.
        architecture: A name of `ensemble.models`, as torchvision/resnet50 of a library, or the
            kind of a program (onnx, pt2).
        classes: What each output stands for, as class indices of the data.
        checkpoint: The file with the weights.
        weights_sha256: Of that file.
        head: Name of the last linear layer, whose rows are the label embeddings; empty if there is
            none.
        parameters: How many there are.
        preprocessing: From pixels to input.
        views: Test-time views, averaged to one row an image.
        data_sha256: Identity of the image index that its column is about.
        seed: Of its training; none if somebody else trained it.
        precision: Of its weights and activations when it predicts.
        temperature: Of its probabilities in an average; no part of its identity, since its column
            holds them as they are.
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

    @cached_property
    def column(self) -> str:
        """Identity of what this member computes: 16 hex digits.

        A rename keeps it; other weights, preprocessing, views, images or numeric libraries change it.
        """
        return fingerprint(self.identity)[:16]

    @property
    def pool_name(self) -> str:
        """Its name in the config, which its views share where each is a member of its own."""
        return self.name.partition(VIEW_MARK)[0]

    @property
    def identity(self) -> dict[str, object]:
        """What the column's fingerprint is made of."""
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
    """The member with another precision of weights and activations.

    Raises:
        ConfigError: It is a program, whose precision cannot be changed.
    """
    if precision != "float32" and member.architecture in PROGRAMS:
        raise ConfigError(
            f"the member {member.name!r} is a program ({member.architecture}) and cannot be run in "
            f"{precision}: it takes float32 and computes in what it was exported in. Set "
            "precision: float32 for this member."
        )
    return replace(member, precision=precision)


def split_views(member: Member) -> tuple[Member, ...]:
    """One member for each view where `keep_views` asks for it; otherwise the member itself.

    They share the checkpoint, and a host loads it once.
    """
    if not keeps_views(member.views):
        return (member,)
    return tuple(
        replace(member, name=name, views=view)
        for name, view in zip(
            view_names(member.name, member.views, member.preprocessing.size),
            list_views(member.views, member.preprocessing.size),
            strict=True,
        )
    )


def view_names(name: str, views: Views, size: int) -> tuple[str, ...]:
    """Names of the members that one of the pool stands for: itself, or NAME@VIEW for each view.

    Args:
        name: In the config.
        views: Its test-time views.
        size: Side of its input, in pixels.
    """
    if not keeps_views(views):
        return (name,)
    return tuple(f"{name}{VIEW_MARK}{view.label}" for view in list_views(views, size))
