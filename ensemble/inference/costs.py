"""What a member's forward passes cost: given, or measured once and kept by content. No torch."""

import os
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from ensemble.config import Config
from ensemble.members.identity import fingerprint, library_versions
from ensemble.views.settings import Views


class Figure(Config):
    """The cost of one member on one kind of device."""

    images_per_s: PositiveFloat
    """Images a second under all of its views, on one whole device."""
    memory_mb: NonNegativeFloat = 0
    """Peak memory of weights and one batch, in MB of 2^20 bytes."""
    device_memory_mb: PositiveFloat | None = None
    """All memory of the GPU that it was measured on; none on CPUs."""
    batch_images: PositiveInt | None = None
    """The largest batch that fitted, where a larger one did not."""


def figure_key(
    architecture: str,
    num_classes: int,
    size: int,
    views: Views,
    settings: dict[str, object],
) -> str:
    """Identity of a cost: 24 hex digits. Weights and seeds change no cost, so they are not in it.

    Args:
        architecture: Of the network.
        num_classes: Its outputs.
        size: Side of its input, in pixels.
        views: Test-time views.
        settings: The kind of device, precision, and whatever else makes it faster or slower.
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


class FigureCache:
    """Measured figures as files in a folder.

    Args:
        folder: Where they are; made when the first is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> Figure | None:
        """A figure, if it was measured; one that cannot be read is measured again."""
        try:
            return Figure.model_validate_json((self._folder / f"{key}.json").read_text())
        except (FileNotFoundError, ValidationError):
            return None

    def keep(self, key: str, figure: Figure) -> None:
        """Write a figure, over an older one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{key}.{os.getpid()}"
        temporary.write_text(figure.model_dump_json() + "\n", encoding="utf-8")
        os.replace(temporary, self._folder / f"{key}.json")
