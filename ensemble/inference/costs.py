"""What a member's forward passes cost: set in the config, or measured once and kept. No torch."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.files import write_atomic
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.views.policies import list_views
from ensemble.views.settings import Views


class MemberCost(Config):
    """The cost of one member on one kind of device."""

    images_per_s: PositiveFloat
    """Images that the member predicts in a second, under all of its views, on one whole device."""
    memory_mb: NonNegativeFloat = 0
    """Peak memory of the weights and one batch, in MB of 2^20 bytes."""
    batch_mb: NonNegativeFloat = 0
    """Part of `memory_mb` that is no weights, which members of one process use in turn; 0 counts all as weights."""
    device_memory_mb: PositiveFloat | None = None
    """Memory of the whole GPU that the cost was measured on, in MB; null on CPUs."""
    batch_images: PositiveInt | None = None
    """Images of the largest batch that fitted into memory; null where every batch fitted."""

    @model_validator(mode="after")
    def _batch_is_part_of_memory(self) -> "MemberCost":
        if self.batch_mb > self.memory_mb:
            raise ValueError(
                f"batch_mb={self.batch_mb:g} is more than memory_mb={self.memory_mb:g}, of which it "
                "is a part; set memory_mb to the weights and the batch together."
            )
        return self


def cost_key(
    architecture: str,
    num_classes: int,
    size: int,
    views: Views,
    settings: dict[str, object],
) -> str:
    """Return the identity of a cost, in 24 hex digits; weights and seeds are not in it, for they change no cost.

    Args:
        architecture: Name of the network's architecture.
        num_classes: Number of the network's outputs.
        size: Side of the network's input, in pixels.
        views: Test-time views of the member.
        settings: The kind of device, the precision, and whatever else makes a pass faster or slower.
    """
    identity = {
        "architecture": architecture,
        "classes": num_classes,
        "size": size,
        "views": views.model_dump(mode="json"),
        "settings": settings,
        "libraries": library_versions(architecture),
    }
    return fingerprint(identity)[:24]


def seconds_of_all_views(members: Sequence[Member], blocks: Sequence[LogitBlock]) -> float:
    """Reckon what a shard takes a network under all of its views from what some of them took.

    Args:
        members: The views that predicted, or the network as one member.
        blocks: Their blocks.
    """
    kept_from = members[0].kept_from
    size = members[0].preprocessing.size
    num_views = 1 if kept_from is None else len(list_views(kept_from, size))
    return sum(block.seconds for block in blocks) * num_views / len(members)


class CostCache:
    """Measured costs, one JSON file each.

    Args:
        folder: Folder of the files; it is made when the first cost is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> MemberCost | None:
        """Return a cost if it is kept; a file that cannot be read counts as none."""
        try:
            return MemberCost.model_validate_json((self.folder / f"{key}.json").read_text())
        except (FileNotFoundError, ValueError):  # pydantic's, and of bytes that are no text
            return None

    def keep(self, key: str, cost: MemberCost) -> None:
        """Write a cost, over an older one."""
        write_atomic(self.folder / f"{key}.json", cost.model_dump_json() + "\n")
