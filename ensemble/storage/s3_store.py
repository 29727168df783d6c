"""Objects below a prefix of an S3 bucket, each written by one PUT.

A final key is never written through a file object: an exception inside the block would publish a
short object.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DamagedTableError, TableError
from ensemble.storage.s3_client import connect, error_code
from ensemble.storage.s3_listing import NOT_A_STORE, Listed, S3Listing, bucket_and_name, unquoted
from ensemble.storage.s3_requests import Requests
from ensemble.storage.settings import S3Config, StorageConfig

# What one PUT may hold, by the S3 protocol.
MAX_OBJECT_BYTES = 5 << 30
_READ_BYTES = 16 << 20

_MD5 = re.compile(r"[0-9a-f]{32}")


class S3Store:
    """Objects below `s3://bucket/prefix`; see `Store` for what its methods promise.

    Args:
        url: s3://bucket/prefix.
        config: How the store is reached. Keys come from the environment, a profile or an instance role.
    """

    is_remote = True

    def __init__(self, url: str, config: S3Config) -> None:
        bucket = url.removeprefix(S3_SCHEME).partition("/")[0]
        if not bucket:
            raise ConfigError(f"{url!r} names no bucket; expected s3://bucket/prefix.")
        self._url = url.rstrip("/")
        self._is_single_writer = isinstance(config, StorageConfig) and config.single_writer
        self._fs = connect(config)
        self._requests = Requests(self._url, config.attempts)
        self._listing = S3Listing(self._url, self._fs, self._requests)

    @property
    def url(self) -> str:
        """Where the store is, with bucket and prefix."""
        return self._url

    @property
    def retries(self) -> int:
        """Number of requests that were made again."""
        return self._requests.retries

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet.

        The store may refuse because an earlier attempt got through and its reply was lost, so the bytes
        that are there are compared.
        """
        data = bytes(data)
        try:
            if self._is_single_writer:
                if self._exists(key):
                    return self.read(key) == data
                self.replace(key, data)
            else:
                self._put("create", key, data, {"IfNoneMatch": "*"})
        except FileExistsError:
            return self.read(key) == data
        return True

    def stage(self, parts: Sequence[bytes | memoryview]) -> "StagedObject":
        """Put an object's bytes together; they are sent when it is published."""
        return StagedObject(b"".join(parts), self)

    def sync(self, keys: Sequence[str]) -> None:
        """Do nothing: a PUT that was answered is durable."""

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""
        self._put("write", key, data, {})

    def read(self, key: str) -> bytes:
        """Read a whole object in one request; the caller knows its digest."""
        return self._requests.make("read", key, self._get)[0]

    def read_at_rest(self, key: str) -> bytes:
        """Read a whole object as the store holds it; see `Store.read_at_rest`.

        A store gives an ETag with every object. Where it is the MD5 of the bytes, it proves them;
        where it is not, a second read and the size that the store tells have to agree.
        """

        def get(path: str) -> bytes:
            data, etag = self._get(path)
            if not etag:
                raise OSError(f"{NOT_A_STORE}: it has no ETag")
            if not _is_md5(etag, data) and (
                self._get(path) != (data, etag) or self.find(key).size != len(data)
            ):
                raise OSError("two reads gave different bytes")
            return data

        return self._requests.make("read", key, get)

    def read_large(self, key: str) -> memoryview:
        """Read a whole object as `read` does: a socket gives no choice of memory."""
        return memoryview(self.read(key))

    def read_unverified(self, key: str, max_bytes: int) -> bytes:
        """Read a whole object whose digest is not known, unless it is too large.

        Its ETag is its MD5, or says nothing (parts, encryption, other stores): where it does not
        agree, a second read must give the same bytes.

        Raises:
            ValueError: The object is larger than `max_bytes`.
        """

        def get(path: str) -> bytes:
            data, etag = self._get(path, max_bytes)
            if not _is_md5(etag, data) and self._get(path, max_bytes)[0] != data:
                raise OSError("two reads gave different bytes")
            return data

        return self._requests.make("read", key, get)

    def listed(self, folder: str = "") -> Iterator[Listed]:
        """List the objects anywhere below a folder, sorted by key, with their sizes and ETags."""
        return self._listing.objects(folder)

    def find(self, key: str) -> Listed:
        """Find one object, without its bytes.

        Raises:
            DamagedTableError: The object is not there.
        """
        reply = self._head(key)
        size = reply.get("ContentLength")
        if size is None:
            # As behind a gateway that sends everything in chunks: a listing tells the size too.
            return self._listing.object(key)
        return Listed(key, int(size), unquoted(reply.get("ETag")))

    def modified_at(self, key: str) -> float:
        """Tell when an object was written, by the store's clock; see `Store.modified_at`."""
        written: datetime = self._head(key)["LastModified"]
        return written.timestamp()

    def _head(self, key: str) -> dict[str, Any]:
        bucket, name = bucket_and_name(self._url, key)

        def ask(_: str) -> dict[str, Any]:
            reply: dict[str, Any] = self._fs.call_s3("head_object", Bucket=bucket, Key=name)
            if not isinstance(reply.get("LastModified"), datetime):
                raise OSError(f"{NOT_A_STORE}: no time of the object")
            return reply

        head: dict[str, Any] = self._requests.make("find", key, ask)
        return head

    def read_pieces(self, listed: Listed) -> Iterator[bytes]:
        """Read an object of any size, a piece at a time.

        Raises:
            TableError: The object has changed while it was read.
        """
        for start in range(0, listed.size, _READ_BYTES):
            stop = min(start + _READ_BYTES, listed.size)
            piece = self.read_range(listed.key, start, stop)
            if len(piece) != stop - start:
                raise TableError(
                    f"{self._url}/{listed.key} has changed while it was read: it was {listed.size} "
                    "bytes long. Run again when nobody writes it."
                )
            yield piece

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes of an object in one request.

        Raises:
            TableError: The store ignores ranges, and answers more bytes.
        """
        data: bytes = self._requests.make(
            "read", key, lambda path: self._fs.cat_file(path, start=start, end=stop)
        )
        if len(data) > stop - start:
            raise TableError(
                f"{self._url}/{key} answered {len(data)} bytes where {stop - start} were asked for: "
                "the store ignores ranges. `ensemble doctor` tells more."
            )
        return data

    def range_status(self, key: str) -> int:
        """Ask for the first byte, and give the HTTP status of the answer; 206 is right."""
        bucket, name = bucket_and_name(self._url, key)

        def ask(_: str) -> int:
            reply = self._fs.call_s3("get_object", Bucket=bucket, Key=name, Range="bytes=0-0")
            return int(reply["ResponseMetadata"]["HTTPStatusCode"])

        return self._requests.make("read", key, ask)

    def keys(self, folder: str) -> Iterator[str]:
        """List the names of objects anywhere below a folder, sorted."""
        yield from [entry.key for entry in self._listing.objects(folder)]

    def keys_after(self, last: str | None) -> Iterator[str]:
        """List the names of all objects that come after one; see `S3Listing.keys_after`."""
        return self._listing.keys_after(last)

    def folders(self, folder: str) -> tuple[str, ...]:
        """List the names of folders directly below a folder, sorted."""
        return self._listing.folders(folder)

    def remove(self, key: str) -> None:
        """Remove an object; a missing one is no error on S3."""
        self._requests.make("remove", key, lambda path: self._fs.rm_file(path))

    def leftovers(self) -> tuple[str, ...]:
        """Give no keys: a single PUT leaves nothing half written."""
        return ()

    def _exists(self, key: str) -> bool:
        try:
            self.find(key)
        except DamagedTableError:
            return False
        return True

    def _put(self, what: str, key: str, data: bytes, condition: Mapping[str, str]) -> None:
        """One PUT, and proof that the store took what it was sent.

        The reply's ETag is the MD5 of what the store holds, or it says nothing (encryption with a
        key of its own, other stores); then the object is read back and compared. This holds for
        either setting of `checksums`, and for stores that accept a checksum and do not look at it.
        """
        if len(data) > MAX_OBJECT_BYTES:
            raise TableError(
                f"cannot {what} {self._url}/{key}: {len(data):,} bytes are more than one PUT takes "
                f"({MAX_OBJECT_BYTES:,})."
            )

        def put(path: str) -> str:
            bucket, _, name = path.partition("/")
            try:
                reply = self._fs.call_s3(
                    "put_object", Bucket=bucket, Key=name, Body=data, **condition
                )
            except OSError as error:
                # Not every store says which condition it was that failed.
                if condition and error_code(error) in ("PreconditionFailed", "412"):
                    raise FileExistsError(str(error)) from error
                if condition and error_code(error) in ("NotImplemented", "501"):
                    raise ConfigError(without_conditional_writes(self._url)) from error
                raise
            return unquoted(reply.get("ETag"))

        if not _is_md5(self._requests.make(what, key, put), data) and self.read(key) != data:
            raise TableError(
                f"{self._url}/{key} is not what was written: the store changed it under way. Nothing "
                "names it yet; `ensemble doctor` tells what else the store does."
            )

    def _get(self, path: str, max_bytes: int = MAX_OBJECT_BYTES) -> tuple[bytes, str]:
        """An object and its ETag; the client compares checksums where the store sends them."""
        from fsspec.asyn import sync

        bucket, _, name = path.partition("/")

        async def get() -> tuple[bytes, str]:
            reply = await self._fs._call_s3("get_object", Bucket=bucket, Key=name)
            async with reply["Body"] as body:
                headers = reply["ResponseMetadata"]["HTTPHeaders"]
                if "etag" not in headers and not any(h.startswith("x-amz-") for h in headers):
                    # Such as the page of a captive portal, with which every request is answered.
                    raise OSError(f"{NOT_A_STORE}: it has no ETag and no header of S3")
                # Gateways that send an object in chunks do not tell its size before.
                size = reply.get("ContentLength")
                if size is not None and size > max_bytes:
                    raise ValueError(f"{size:,} bytes, over {max_bytes:,}")
                data: bytes = await (body.read() if size is not None else _at_most(max_bytes, body))
            return data, unquoted(reply.get("ETag"))

        reply: tuple[bytes, str] = sync(self._fs.loop, get)
        return reply


@dataclass(frozen=True)
class StagedObject:
    """Bytes of an object before its one PUT."""

    data: bytes
    store: S3Store

    def publish(self, key: str) -> bool:
        """Create the object; see `Staged.publish`."""
        return self.store.create(key, self.data)

    def __enter__(self) -> "StagedObject":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def without_conditional_writes(url: str) -> str:
    """Word the message about a store that cannot refuse to overwrite."""
    return (
        f"the store of {url} ignores If-None-Match: a second run could overwrite this one's table. "
        "Use a store that has conditional writes, or set storage.single_writer=true and see to it "
        "that only one run at a time uses this table."
    )


async def _at_most(max_bytes: int, body: Any) -> bytes:
    """Read all of a body whose size is not known.

    Raises:
        ValueError: The body is larger than `max_bytes`.
    """
    pieces: list[bytes] = []
    read = 0
    while piece := await body.read(_READ_BYTES):
        pieces.append(piece)
        read += len(piece)
        if read > max_bytes:
            raise ValueError(f"more than {max_bytes:,} bytes")
    return b"".join(pieces)


def _is_md5(etag: str, data: bytes) -> bool:
    return bool(_MD5.fullmatch(etag)) and (
        hashlib.md5(data, usedforsecurity=False).hexdigest() == etag
    )
