"""Handwritten digits (Alpaydin & Kaynak 1998, the test part), as scikit-learn ships them."""

from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from ensemble.errors import DecodeError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import DigitsConfig

_BRIGHTEST = 16


class _Digits:
    def __init__(self, only: tuple[int, ...] | None) -> None:
        self._only = only

    @cached_property
    def _images(self) -> tuple[UInt8[np.ndarray, "image 8 8"], np.ndarray]:
        from sklearn.datasets import load_digits  # seconds of import that a --help must not pay

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / _BRIGHTEST)).astype(np.uint8)
        return pixels, digits.target.astype(np.int64)

    def index(self) -> ImageIndex:
        _, labels = self._images
        digits = sorted(set(self._only)) if self._only else list(range(10))
        rows = np.flatnonzero(np.isin(labels, digits))
        return ImageIndex(
            source="sklearn-digits-1",
            image_ids=np.array([f"digits-{row:04d}" for row in rows]),
            labels=np.searchsorted(digits, labels[rows]).astype(np.int64),
            classes=tuple(map(str, digits)),
        )

    def decode(self, image_id: str) -> UInt8[np.ndarray, "8 8 3"]:
        pixels, _ = self._images
        row = image_id.removeprefix("digits-")
        if not row.isdecimal() or int(row) >= len(pixels):
            raise DecodeError(
                f"no image {image_id!r}; expected digits-0000 to digits-{len(pixels) - 1}"
            )
        return np.repeat(pixels[int(row)][:, :, None], 3, axis=2)


def open_source(config: DigitsConfig) -> _Digits:
    """Open the digits; nothing is read yet."""
    return _Digits(config.only)
