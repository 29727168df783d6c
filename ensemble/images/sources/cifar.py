"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the Python files that torchvision downloads and checks.

The files are pickles. One is read only if its MD5 is the published one, and then by an unpickler that
knows arrays and nothing else, because MD5 alone holds off an accident, not an attacker.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.index import ImageIndex
from ensemble.images.settings import CifarConfig

_SIDE = 32


@dataclass(frozen=True)
class Release:
    """The published files of one data set, and how they are recognised.

    Attributes:
        url: URL of the archive.
        archive_md5: MD5 of the archive.
        folder: Folder that the archive unpacks to.
        train: MD5 of each file of training images, by name, in order.
        test: MD5 of each file of test images, by name, in order.
        meta: Name and MD5 of the file with the class names.
        labels: Key of the labels in a file of images.
        names: Key of the class names in the file of `meta`.
    """

    url: str
    archive_md5: str
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: tuple[str, str]
    labels: str
    names: str

    @property
    def md5_by_name(self) -> dict[str, str]:
        """MD5 of every file that is needed, by name."""
        return {**self.train, **self.test, self.meta[0]: self.meta[1]}


RELEASES = {
    "cifar10": Release(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        labels="labels",
        names="label_names",
    ),
    "cifar100": Release(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
        labels="fine_labels",
        names="fine_label_names",
    ),
}


@dataclass(frozen=True)
class _Part:
    pixels: UInt8[np.ndarray, "image 32 32 3"]
    labels: Int64[np.ndarray, " image"]


@dataclass
class CifarFiles:
    """The files of a release, in torchvision's layout.

    Attributes:
        root: Folder that holds the release's folder.
        release: The files that are expected there.
        download: Whether to download the archive if a file is missing.
    """

    root: Path
    release: Release
    download: bool = False
    _parts: dict[str, _Part] = field(default_factory=dict, init=False)

    def index(self) -> ImageIndex:
        """List all images; those of the test files have ids that begin with test/.

        Raises:
            ConfigError: A file is missing, or is not the published one.
            DataError: A file does not hold images, labels or class names.
        """
        if self.download and not all(self._path(n).exists() for n in self.release.md5_by_name):
            _download(self.release, self.root)
        labels = {name: self._part(name).labels for name in ("train", "test")}
        return ImageIndex(
            # The content itself, so that the same files are the same images wherever they lie.
            source=f"cifar-1 {' '.join(self.release.md5_by_name.values())}",
            image_ids=np.array(
                [f"{name}/{row:06d}" for name, part in labels.items() for row in range(len(part))],
                np.str_,
            ),
            labels=np.concatenate(list(labels.values())),
            classes=self._classes,
        )

    def decode(self, image_id: str) -> UInt8[np.ndarray, "32 32 3"]:
        """Return the pixels of one image.

        Raises:
            DecodeError: There is no image of that id.
        """
        name, _, row = image_id.partition("/")
        if name not in ("train", "test") or not row.isdecimal():
            raise DecodeError(
                f"no image {image_id!r}; expected an id as train/000000 or test/000000"
            )
        pixels = self._part(name).pixels
        if int(row) >= len(pixels):
            raise DecodeError(f"no image {image_id!r}; {name} has {len(pixels)} images")
        return pixels[int(row)]

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        name, checksum = self.release.meta
        names = self._read(name, checksum).get(self.release.names)
        if not isinstance(names, list) or not all(isinstance(text, str) for text in names):
            raise DataError(
                f"{self._path(name)} has no list {self.release.names!r} of class names."
            )
        return tuple(names)

    def _part(self, name: str) -> _Part:
        """Return the training or the test images; they are read once, because a shard takes hundreds."""
        if name not in self._parts:
            files = self.release.train if name == "train" else self.release.test
            batches = [self._batch(file, checksum) for file, checksum in files.items()]
            pixels, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
            self._parts[name] = _Part(pixels, labels)
        return self._parts[name]

    def _batch(self, name: str, checksum: str) -> tuple[np.ndarray, np.ndarray]:
        batch = self._read(name, checksum)
        pixels, labels = batch.get("data"), batch.get(self.release.labels)
        if (
            not isinstance(pixels, np.ndarray)
            or not isinstance(labels, list)
            or pixels.dtype != np.uint8
            or pixels.shape != (len(labels), 3 * _SIDE * _SIDE)
        ):
            raise DataError(
                f"{self._path(name)} does not hold rows of {3 * _SIDE * _SIDE} bytes under 'data' and "
                f"as many labels under {self.release.labels!r}."
            )
        # Stored channel by channel.
        images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), np.array(labels, np.int64)

    def _read(self, name: str, checksum: str) -> Mapping[str, Any]:
        path = self._path(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {str(path)!r}: {error.strerror}. Set images.source.path to the folder that "
                f"holds {self.release.folder}, or images.source.download=true."
            ) from error
        digest = md5(content, usedforsecurity=False).hexdigest()
        if digest != checksum:
            raise ConfigError(
                f"{str(path)!r} has the MD5 {digest}, and the published file {checksum}. It is damaged or "
                "another one, and is not read. Remove it and fetch it again: images.source.download=true."
            )
        try:
            # Python 2 wrote it: its strings are bytes.
            return dict(_ArraysOnly(io.BytesIO(content), encoding="latin1").load())
        except (pickle.UnpicklingError, ValueError, TypeError, EOFError) as error:
            raise DataError(f"{path} is not a file of CIFAR: {error}.") from error

    def _path(self, name: str) -> Path:
        return self.root / self.release.folder / name


class _ArraysOnly(pickle.Unpickler):
    """Loads dictionaries, lists, text, numbers and arrays."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if name == "_reconstruct" and module in _MULTIARRAY:
            return np.zeros(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            # How Python 3 writes bytes in the protocol that Python 2 can read.
            return str.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")


# Where NumPy had it when the files were written, and where it has it now.
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")


def _download(release: Release, root: Path) -> None:
    # Here, because it imports torch, and only a first run downloads.
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        download_and_extract_archive(release.url, str(root), md5=release.archive_md5)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot fetch {release.url}: {error}. Fetch it by other means, unpack it so that "
            f"{root / release.folder} is there, and set images.source.download=false."
        ) from error


def open_source(config: CifarConfig) -> CifarFiles:
    """Open the files; nothing is read yet."""
    return CifarFiles(config.path, RELEASES[config.kind], config.download)
