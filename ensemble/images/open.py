"""Open an image source of any kind, and decode a shard of its images."""

from collections.abc import Iterator, Sequence
from functools import partial
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
class ReducingSource(Decoder, Protocol):
    """Images of which large ones can be decoded at a part of their size."""

    def decode_reduced(self, image_id: str, short_side: int) -> np.ndarray:
        """Decode one image that will be resized to a short side, in at least twice that size if it has it.

        Raises:
            DecodeError: The image cannot be decoded; the message is the reason.
        """


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
    for image_id, image in _decode_each(source, spec.image_ids, None):
        if isinstance(image, BadImage):
            bad.append(image)
        else:
            images.append(image)
            image_ids.append(image_id)
    return ImageShard.pack(image_ids, images, bad)


def decode_for(source: Decoder, image_ids: Sequence[str], short_side: int) -> Iterator[ImageShard]:
    """Decode images that will be resized to a short side, each into a shard of its own.

    So that a few hundred large photographs are never in memory together. A JPEG of more than twice the short side
    may be decoded at a part of its size.

    Args:
        source: Where the images come from.
        image_ids: Ids of the images, in order.
        short_side: Short side that larger images will be resized to, in pixels.
    """
    for image_id, image in _decode_each(source, image_ids, short_side):
        if isinstance(image, BadImage):
            yield ImageShard.pack([], [], [image])
        else:
            yield ImageShard.pack([image_id], [image])


def _decode_each(
    source: Decoder, image_ids: Sequence[str], short_side: int | None
) -> Iterator[tuple[str, np.ndarray | BadImage]]:
    if isinstance(source, RemoteSource):
        source.read_ahead(image_ids)
    decode = source.decode
    if short_side is not None and isinstance(source, ReducingSource):
        decode = partial(source.decode_reduced, short_side=short_side)
    for image_id in image_ids:
        try:
            yield image_id, decode(image_id)
        except DecodeError as error:
            yield image_id, BadImage(image_id, str(error))
