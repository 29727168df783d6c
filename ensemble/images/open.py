"""Open an image source of any kind, and decode a shard of its images."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np

from ensemble.errors import DecodeError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import BadImage, ImageShard, ShardSpec
from ensemble.images.unlabelled.settings import UnlabelledConfig


@runtime_checkable
class Decoder(Protocol):
    """Images that can be decoded one by one."""

    def decode(self, image_id: str) -> np.ndarray:
        """Decode one image to RGB, uint8 `[height, width, 3]`.

        Raises:
            DecodeError: The image cannot be decoded; the message is the reason.
        """


@runtime_checkable
class Source(Decoder, Protocol):
    """Labelled images that can be listed, and decoded one by one."""

    def index(self) -> ImageIndex:
        """List the labelled images, without decoding any."""


@runtime_checkable
class RemoteSource(Decoder, Protocol):
    """Images that are read over a network."""

    @property
    def retries(self) -> int:
        """Number of requests that were repeated so far."""

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read images that will be decoded next."""


_MODULES = {
    "cifar10": "ensemble.images.sources.cifar",
    "cifar100": "ensemble.images.sources.cifar",
    "digits": "ensemble.images.sources.digits",
    "folder": "ensemble.images.sources.folder",
    "listed": "ensemble.images.sources.listed",
    "parquet": "ensemble.images.sources.parquet",
}


def open_source(config: SourceConfig) -> Source:
    """Open the source that the settings describe; nothing is read yet."""
    source: Source = import_module(_MODULES[config.kind]).open_source(config)
    return source


def open_decoder(config: SourceConfig | UnlabelledConfig) -> Decoder:
    """Open labelled or unlabelled images to decode them by their ids."""
    if not isinstance(config, UnlabelledConfig):
        return open_source(config)
    # Here, because a run has labelled images.
    from ensemble.images.unlabelled.open import open_unlabelled

    return open_unlabelled(config)


def decode_shard(source: Decoder, spec: ShardSpec) -> ImageShard:
    """Decode each image of a shard; one that cannot be decoded is recorded with the reason."""
    image_ids, images, bad = [], [], []
    if isinstance(source, RemoteSource):
        source.read_ahead(spec.image_ids)
    for image_id in spec.image_ids:
        try:
            images.append(source.decode(image_id))
            image_ids.append(image_id)
        except DecodeError as error:
            bad.append(BadImage(image_id, str(error)))
    return ImageShard.pack(image_ids, images, bad)
