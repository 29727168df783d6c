"""Image sources: one file a kind, one dict. Each kind's work is in its own module."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np

from ensemble.errors import DecodeError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import BadImage, ImageShard, ShardSpec


@runtime_checkable
class Source(Protocol):
    """What every kind of source can do."""

    def index(self) -> ImageIndex:
        """List the labelled images, without decoding any."""

    def decode(self, image_id: str) -> np.ndarray:
        """Decode one image to RGB, uint8 `[height, width, 3]`.

        Raises:
            DecodeError: It cannot be decoded; the message is the reason.
        """


@runtime_checkable
class RemoteSource(Source, Protocol):
    """A source whose images come from far away."""

    @property
    def retries(self) -> int:
        """Requests that were made again so far."""

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read the images that are decoded next."""


_MODULES = {
    "cifar10": "ensemble.images.sources.cifar",
    "cifar100": "ensemble.images.sources.cifar",
    "digits": "ensemble.images.sources.digits",
    "folder": "ensemble.images.sources.folder",
    "listed": "ensemble.images.sources.listed",
    "parquet": "ensemble.images.sources.parquet",
}


def open_source(config: SourceConfig) -> Source:
    """The source that some settings describe."""
    source: Source = import_module(_MODULES[config.kind]).open_source(config)
    return source


def decode_shard(source: Source, spec: ShardSpec) -> ImageShard:
    """Decode the images of a shard, each once; what cannot be decoded is recorded with its reason."""
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
