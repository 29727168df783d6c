"""Settings of `ensemble predict`, and what it tells at the end."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from cluster.settings import ClusterConfig
from ensemble.config import Config, check, full_words, read_settings
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.settings import StorageConfig


class PredictConfig(Config):
    """A bulk prediction."""

    images: UnlabelledConfig
    """The images."""
    top_k: PositiveInt = 5
    """Number of the most probable classes in each row."""
    probabilities: bool = False
    """Keep the probability of every class in each row."""
    equal_bits: bool = False
    """Give an image the same bits whatever images are predicted with it, and those of the run's table. The last
    batch of a shard then costs a whole batch."""
    chapter_images: PositiveInt = 100_000
    """Images that are listed at a time; the driver holds two chapters of names."""
    price_per_hour: PositiveFloat | None = None
    """Price of a device for an hour, for the cost at the end; none is told if not set."""
    cluster: ClusterConfig = ClusterConfig()
    """Where the work runs. `cluster.shard_images` images are one part."""
    storage: StorageConfig = StorageConfig()
    """How everything at s3:// is reached."""


@dataclass
class Summary:
    """What a bulk prediction did.

    Attributes:
        images: Number of images, each of which has exactly one row.
        bad: Number of rows with an error instead of an answer, among those that this command computed.
        computed: Number of images that this command answered; the others were answered before.
        parts: Number of parts.
        seconds: Wall time of the prediction, without the start of Ray.
        device_hours: Hours that the devices were held, the start of Ray included.
        devices: Number of devices, by kind.
        retries: Number of calls and requests that were made again.
        cost: Price of the device hours; None where no price is set.
    """

    images: int = 0
    bad: int = 0
    computed: int = 0
    parts: int = 0
    seconds: float = 0.0
    device_hours: float = 0.0
    devices: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    cost: float | None = None

    @property
    def images_per_s(self) -> float:
        """Images that this command answered in a second of the clock."""
        return self.computed / self.seconds if self.seconds else 0.0

    def document(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {**asdict(self), "images_per_s": round(self.images_per_s, 2)}


def read_words(images: str, words: Sequence[str]) -> PredictConfig:
    """Read the settings of a bulk prediction.

    Args:
        images: Place of the images.
        words: Settings of the form a.b=value.

    Raises:
        ConfigError: A setting is wrong.
    """
    settings = read_settings(full_words(PredictConfig, words))
    named = settings.get("images", {})
    if isinstance(named, dict):  # anything else `check` refuses
        settings["images"] = {"path": images, **named}
    config = check(PredictConfig, settings, "the command")
    if "storage" not in config.images.model_fields_set:
        # Images are reached as everything else is, unless the settings say otherwise.
        update = {"storage": config.storage}
        config = config.model_copy(update={"images": config.images.model_copy(update=update)})
    return config
