"""Listings of a bucket, a page at a time, each of which has to be that of a store."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ensemble.config import S3_SCHEME
from ensemble.errors import DamagedTableError
from ensemble.storage.s3_requests import Requests

NOT_A_STORE = "the answer is not that of an S3 store"


@dataclass(frozen=True)
class Listed:
    """An object as a listing of the store shows it.

    Attributes:
        key: Name below the store's prefix.
        size: Size in bytes.
        etag: A value that changes with the content: its MD5 where it was written by one PUT without
            encryption by a key of its own.
    """

    key: str
    size: int
    etag: str


class S3Listing:
    """What lies below `s3://bucket/prefix`.

    Args:
        url: s3://bucket/prefix.
        fs: The client.
        requests: Makes requests, and makes them again.
    """

    def __init__(self, url: str, fs: Any, requests: Requests) -> None:
        self._url, self._fs, self._requests = url, fs, requests

    def objects(self, folder: str = "") -> Iterator[Listed]:
        """List the objects anywhere below a folder, sorted by key, with their sizes and ETags."""
        prefix = bucket_and_name(self._url, "")[1]
        entries = {
            str(entry["Key"]).removeprefix(prefix): entry
            for page in self._pages(folder)
            for entry in page.get("Contents", [])
        }
        for key in sorted(entries):
            # A key that ends in a slash is the mark of an empty folder, which consoles make.
            if not key.endswith("/"):
                entry = entries[key]
                yield Listed(key, int(entry["Size"]), unquoted(entry.get("ETag")))

    def object(self, key: str) -> Listed:
        """Find one object by a listing, which tells its size where no other answer does.

        Raises:
            DamagedTableError: The object is not there.
        """
        bucket, name = bucket_and_name(self._url, key)
        page = self._requests.make("list", key, lambda _: self._page(bucket, Prefix=name))
        for entry in page.get("Contents", []):
            if entry["Key"] == name:
                return Listed(key, int(entry["Size"]), unquoted(entry.get("ETag")))
        raise DamagedTableError(f"cannot find {self._url}/{key}: there is no such object.")

    def keys_after(self, last: str | None) -> Iterator[str]:
        """List the names of all objects that come after one in the store's own order, a page at a time.

        Args:
            last: Name below the store's prefix; all names if None.
        """
        prefix = bucket_and_name(self._url, "")[1]
        options = {} if last is None else {"StartAfter": f"{prefix}{last}"}
        for page in self._pages("", **options):
            for entry in page.get("Contents", []):
                key = str(entry["Key"]).removeprefix(prefix)
                if key and not key.endswith("/"):
                    yield key

    def folders(self, folder: str) -> tuple[str, ...]:
        """List the names of folders directly below a folder, sorted; one request for a thousand."""
        folders = (
            str(entry["Prefix"])
            for page in self._pages(folder, Delimiter="/")
            for entry in page.get("CommonPrefixes", [])
        )
        return tuple(sorted(name.rstrip("/").rpartition("/")[2] for name in folders))

    def _pages(self, folder: str, **options: str) -> Iterator[dict[str, Any]]:
        """List what lies below a folder, a thousand names at a time."""
        bucket, name = bucket_and_name(self._url, folder)
        options["Prefix"] = f"{name.rstrip('/')}/" if name else ""
        while True:
            page = self._requests.make("list", folder, lambda _: self._page(bucket, **options))
            yield page
            if not page["IsTruncated"]:
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def _page(self, bucket: str, **options: str) -> dict[str, Any]:
        """Ask for one page of a listing.

        The page of a captive portal, or of a proxy that failed, parses as a listing without names:
        what a store answers holds the bucket's name, and says whether there is more.

        Raises:
            OSError: The answer is no listing of this bucket.
        """
        page: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=bucket, **options)
        if page.get("Name") != bucket or not isinstance(page.get("IsTruncated"), bool):
            raise OSError(f"{NOT_A_STORE}: it is no listing of bucket {bucket!r}")
        return page


def bucket_and_name(url: str, key: str) -> tuple[str, str]:
    """Divide the place of a key into its bucket and its name there; that of "" ends in a slash."""
    bucket, _, name = f"{url}/{key}".removeprefix(S3_SCHEME).partition("/")
    return bucket, name


def unquoted(etag: str | None) -> str:
    """Take an ETag out of its quotes; empty where there is none."""
    return (etag or "").strip('"')
