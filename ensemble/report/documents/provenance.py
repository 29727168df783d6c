"""The parts of report.json about provenance: which settings, code and images, and how the run went."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.weights import Count, Finite, Sha256


class Identity(Config):
    """Settings, code and data that the figures depend on; equal identities give equal reports."""

    config_sha256: Sha256
    data_sha256: Sha256
    git_commit: str | None = None
    git_dirty: bool | None = None
    seed: int
    versions: dict[str, str]
    """Versions of the libraries that can change a figure."""


class Split(Config):
    """The images of one split, known by the SHA-256 of their ids in order."""

    name: Literal["train", "search", "test"]
    images: Count
    sha256: Sha256


class BadImage(Config):
    """An image that was left out for every member alike."""

    image_id: str
    reason: str


class Data(Config):
    """The images of the run."""

    source: str
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    num_images: PositiveInt
    splits: tuple[Split, ...]
    bad_images: tuple[BadImage, ...] = ()


class Stage(Config):
    """Wall time of one stage of the flow."""

    name: str
    seconds: Finite


class Retries(Config):
    """Numbers of attempts that failed and were made again."""

    calls: Count
    """Calls to hosts: trainings and blocks."""
    requests: Count
    """Requests to an object store: of the table and of images."""


class MixedColumn(Config):
    """A member whose predictions more than one kind of device computed; kinds round differently."""

    member: str
    rows_by_device_kind: dict[str, Count]
    """Number of rows that each kind of device computed."""


class Execution(Config):
    """Time, hosts and counts of this very run; nothing here changes a figure elsewhere."""

    started_at: AwareDatetime
    host: str
    images: str = ""
    """Where the images lie: kind and path."""
    hosts: Count
    """Number of host actors; 0 where the run was in one process."""
    seconds_total: Finite
    stages: tuple[Stage, ...]
    shard_images: PositiveInt
    trained: Count
    """Number of networks that this run trained."""
    from_cache: Count
    """Number of networks that an earlier run had trained."""
    forward_passes: Count
    """Number of forward passes: images by views by members; 0 where the table was complete."""
    decoded_images: Count
    images_per_s: Finite
    mixed_columns: tuple[MixedColumn, ...] = ()
    """Members whose predictions more than one kind of device computed."""
    seconds_per_image: dict[str, Finite] = Field(default_factory=dict)
    """Seconds of an image under all views, one network after the other, by the key of the report's costs."""
    seconds_by_member: dict[str, Finite] = Field(default_factory=dict)
    """Seconds of an image under all views of each member, by name; without those that were not measured."""
    training_seconds: dict[str, Finite] = Field(default_factory=dict)
    """Seconds of all epochs of each member that was trained here, by name, in this run or an earlier one."""
    retries: Retries
    versions: dict[str, str]
    """Versions that cannot change a figure: Python, scheduler and platform."""
