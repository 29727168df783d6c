"""Objects below a prefix of an S3 bucket. One PUT an object; every repeated request is counted.

A final key is never written through a file object: an exception inside the block would publish a
short object. Clients' own retries are off, so that a retry is ours, bounded and counted.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ensemble.errors import ConfigError, DamagedTableError, TableError
from ensemble.table.storage import S3_SCHEME, StorageConfig

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0

_Value = TypeVar("_Value")


class S3Store:
    """Objects below `s3://bucket/prefix`; see `Store` for what its methods promise.

    Args:
        url: s3://bucket/prefix.
        config: How to reach it. Keys come from the environment, a profile or an instance role.
    """

    is_remote = True

    def __init__(self, url: str, config: StorageConfig) -> None:
        bucket = url.removeprefix(S3_SCHEME).partition("/")[0]
        if not bucket:
            raise ConfigError(f"{url!r} names no bucket; expected s3://bucket/prefix.")
        self._url = url.rstrip("/")
        self._config = config
        self._fs = _connect(config)
        self._refusals, self._temporary_errors = _refusals(), _temporary_errors()
        self.retries = 0

    @property
    def url(self) -> str:
        """Where it is, with bucket and prefix."""
        return self._url

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet.

        A refusal may answer our own request whose reply was lost: what is there is compared.
        """
        data = bytes(data)
        try:
            if self._config.single_writer:
                if self._exists(key):
                    return self.read(key) == data
                self.replace(key, data)
            else:
                self._try("create", key, lambda path: self._put(path, data, mode="create"))
        except FileExistsError:
            return self.read(key) == data
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""
        self._try("write", key, lambda path: self._put(path, data, mode="overwrite"))

    def read(self, key: str) -> bytes:
        """A whole object."""
        data: bytes = self._try("read", key, lambda path: self._fs.cat_file(path))
        return data

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an object, in one request."""
        data: bytes = self._try(
            "read", key, lambda path: self._fs.cat_file(path, start=start, end=stop)
        )
        if len(data) > stop - start:
            raise TableError(
                f"{self._url}/{key} answered {len(data)} bytes where {stop - start} were asked for: "
                "the store ignores ranges. `ensemble doctor` tells more."
            )
        return data

    def range_status(self, key: str) -> int:
        """HTTP status that a request for the first byte is answered with; 206 is right."""
        bucket, _, name = f"{self._url}/{key}".removeprefix(S3_SCHEME).partition("/")

        def ask(_: str) -> int:
            found = self._fs.call_s3("get_object", Bucket=bucket, Key=name, Range="bytes=0-0")
            return int(found["ResponseMetadata"]["HTTPStatusCode"])

        return self._try("read", key, ask)

    def keys(self, folder: str) -> Iterator[str]:
        """Names of the objects anywhere below a folder, sorted."""
        try:
            found = self._try("list", folder, lambda path: self._fs.find(path, refresh=True))
        except DamagedTableError:
            return
        prefix = f"{self._url.removeprefix(S3_SCHEME)}/"
        yield from sorted(str(path).removeprefix(prefix) for path in found)

    def remove(self, key: str) -> None:
        """Take an object away; a missing one is no error on S3."""
        self._try("remove", key, lambda path: self._fs.rm_file(path))

    def leftovers(self) -> tuple[str, ...]:
        """Nothing: a single PUT leaves nothing half written."""
        return ()

    def _exists(self, key: str) -> bool:
        try:
            self._try("find", key, lambda path: self._fs.info(path, refresh=True))
        except DamagedTableError:
            return False
        return True

    def _put(self, path: str, data: bytes, mode: str) -> None:
        if len(data) >= 100 << 20:
            raise AssertionError("an object of more than one PUT")
        self._fs.pipe_file(path, data, mode=mode)

    def _try(self, what: str, key: str, request: Callable[[str], _Value]) -> _Value:
        """Make a request, again where that may help.

        Raises:
            FileExistsError: The store refused to overwrite.
            TableError: It answers no, or nothing in all attempts.
        """
        path = f"{self._url}/{key}"
        for attempt in range(1, self._config.attempts + 1):
            try:
                return request(path.removeprefix(S3_SCHEME))
            except FileExistsError:
                raise
            except FileNotFoundError as error:
                raise DamagedTableError(
                    f"cannot {what} {path}: there is no such object or bucket."
                ) from error
            except self._refusals as error:
                raise TableError(
                    f"cannot {what} {path}: the store refuses ({error}). Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or storage.profile, or storage.anonymous=true for "
                    "public data."
                ) from error
            except self._temporary_errors as error:
                if attempt == self._config.attempts:
                    raise TableError(
                        f"cannot {what} {path}: {attempt} attempts failed, the last one with "
                        f"{type(error).__name__}: {error}. What was committed is kept; run again when "
                        "the store answers."
                    ) from error
                self.retries += 1
                wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1)
                log.info(
                    "%s of %s: %s in attempt %d; again in %.2f s",
                    what,
                    path,
                    type(error).__name__,
                    attempt,
                    wait,
                )
                time.sleep(wait)
        raise AssertionError


def _connect(config: StorageConfig) -> Any:
    import s3fs

    fs = s3fs.S3FileSystem(
        anon=config.anonymous,
        profile=config.profile,
        endpoint_url=config.endpoint,
        client_kwargs={"region_name": config.region} if config.region else {},
        config_kwargs={
            "request_checksum_calculation": config.checksums,
            "response_checksum_validation": config.checksums,
            "retries": {"total_max_attempts": 1},
            "connect_timeout": 10,
            "read_timeout": 60,
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    fs.retries = 1
    return fs


def _refusals() -> tuple[type[Exception], ...]:
    """What no other attempt mends: no keys, wrong keys, no right."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError, ProfileNotFound

    return (PermissionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound)


def _temporary_errors() -> tuple[type[Exception], ...]:
    """What another attempt may mend: lost connections, short answers, 5xx, and 409 of a race."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
