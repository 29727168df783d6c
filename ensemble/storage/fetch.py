"""Files of members and artifacts, copied from S3 to where they can be loaded."""

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ensemble.config import S3_SCHEME
from ensemble.errors import CheckpointError, TableError
from ensemble.files import make_folder, partial_file, publish, sha256_of
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config

if TYPE_CHECKING:
    from ensemble.storage.s3_listing import Listed
    from ensemble.storage.s3_store import S3Store


def fetch(place: str, storage: S3Config, cache: Path) -> Path:
    """Find the local file of a place: the path itself, or a copy of an object.

    A copy's name holds a digest of the object's URL, size and ETag, so that an object that was
    replaced is fetched anew, and its own SHA-256, so that a damaged copy is found and replaced.

    Args:
        place: A path or s3://bucket/key.
        storage: How S3 is reached.
        cache: Folder in which copies are kept.

    Raises:
        CheckpointError: The object is not there, changes while it is read, or cannot be kept.
        ConfigError: The store cannot be reached, or refuses the request.
    """
    if not place.startswith(S3_SCHEME):
        return Path(place)
    # Here, because a run without S3 need not pay for its client.
    from ensemble.storage.s3_store import S3Store

    url, _, key = place.rpartition("/")
    try:
        store = S3Store(url, storage)
        listed = store.find(key)
        version = _digest(f"{place}\0{listed.size}\0{listed.etag}".encode())[:16]
        copies = sorted(cache.glob(f"{version}-*{PurePosixPath(key).suffix}"))
        for copy in copies:
            if copy.stem == f"{version}-{sha256_of(copy)}":
                return copy
        return _download(store, listed, cache, version)
    except TableError as error:
        raise CheckpointError(f"{place}: cannot be fetched: {error}") from error
    except OSError as error:
        raise CheckpointError(
            f"{place}: cannot be kept in {cache}: {error.strerror}. Free the disk or set runs=PATH."
        ) from error


class FetchedFolder:
    """A temporary folder for files of one prefix; it is removed with the last reference to this object.

    Args:
        place: s3://bucket/prefix.
        storage: How S3 is reached.
    """

    def __init__(self, place: str, storage: S3Config) -> None:
        self._store = open_store(place, storage)
        self.path = Path(tempfile.mkdtemp(prefix="ensemble-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def fetch(self, file: str) -> None:
        """Copy a file to the same place below the folder as below the prefix.

        Raises:
            CheckpointError: The object is not there, or its name leads out of the folder.
        """
        path = self.path / file
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise CheckpointError(f"{self._store.url} names {file!r}, outside its folder.")
        try:
            data = self._store.read(file)
        except TableError as error:
            raise CheckpointError(f"{self._store.url} cannot be loaded: {error}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _download(store: "S3Store", listed: "Listed", cache: Path, version: str) -> Path:
    make_folder(cache)
    content, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with partial_file(cache) as file:
        for piece in store.read_pieces(listed):
            content.update(piece)
            md5.update(piece)
            file.write(piece)
        if (now := store.find(listed.key)).etag != listed.etag:
            raise CheckpointError(
                f"{store.url}/{listed.key} was replaced while it was fetched (ETag {listed.etag}, now "
                f"{now.etag}). Run again when nobody writes it."
            )
        # Of parts, or under a key of its own, an ETag is no MD5: a second read has to agree.
        if md5.hexdigest() != listed.etag and _remote_digest(store, listed) != content.hexdigest():
            raise CheckpointError(
                f"{store.url}/{listed.key}: two reads of its {listed.size:,} bytes gave different ones. "
                "They are damaged under way: run again, or set storage.checksums=when_supported."
            )
        path = cache / f"{version}-{content.hexdigest()}{PurePosixPath(listed.key).suffix}"
        publish(file, path)
    return path


def _remote_digest(store: "S3Store", listed: "Listed") -> str:
    content = hashlib.sha256()
    for piece in store.read_pieces(listed):
        content.update(piece)
    return content.hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
