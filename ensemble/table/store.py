"""Where the table's files live: whole objects, published at once or not at all."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ensemble.errors import DamagedTableError, TableError

_TEMPORARY = ".part-"


@runtime_checkable
class Store(Protocol):
    """What a table, its log and its lease need of a place. Keys are relative, with `/` between."""

    @property
    def url(self) -> str:
        """How people name the place."""

    @property
    def retries(self) -> int:
        """Requests that were made again so far."""

    @property
    def is_remote(self) -> bool:
        """Whether bytes can change under way, so that a damaged read is worth another."""

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet.

        Returns:
            True if the name now holds exactly these bytes; False if it holds others.
        """

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""

    def read(self, key: str) -> bytes:
        """A whole object.

        Raises:
            DamagedTableError: It is not there.
            TableError: It cannot be read now.
        """

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an object, from `start` up to but not `stop`; fewer where it ends before."""

    def keys(self, folder: str) -> Iterator[str]:
        """Names of the objects anywhere below a folder, sorted; none if there is no folder."""

    def remove(self, key: str) -> None:
        """Take an object away; nothing happens if it is not there."""

    def leftovers(self) -> tuple[str, ...]:
        """Keys of what crashes left half written."""


@dataclass(frozen=True)
class LocalStore:
    """Files below a folder. A file appears complete under its name, or not at all."""

    root: Path
    retries = 0
    is_remote = False

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet; see `Store.create`.

        Written beside its place, synced, then linked: the link fails where the name is taken, and
        a crash leaves a temporary file, never half an object.
        """
        return self._publish(key, data, is_new=True) or self.read(key) == data

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""
        self._publish(key, data, is_new=False)

    def _publish(self, key: str, data: bytes | memoryview, is_new: bool) -> bool:
        path = self.root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(path, error) from error
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                os.link(temporary, path)
            else:
                os.replace(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise _cannot_write(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def read(self, key: str) -> bytes:
        """A whole object; see `Store.read`."""
        try:
            return (self.root / key).read_bytes()
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an object."""
        try:
            with (self.root / key).open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def keys(self, folder: str) -> Iterator[str]:
        """Names of the objects anywhere below a folder, sorted."""
        yield from sorted(
            path.relative_to(self.root).as_posix()
            for path in (self.root / folder).rglob("*")
            if path.is_file() and not path.name.startswith(_TEMPORARY)
        )

    def remove(self, key: str) -> None:
        """Take an object away."""
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.root / key, error) from error

    def leftovers(self) -> tuple[str, ...]:
        """Keys of temporary files; a live writer's are among them."""
        found = self.root.rglob(f"{_TEMPORARY}*")
        return tuple(sorted(path.relative_to(self.root).as_posix() for path in found))


def read_if_there(store: Store, key: str) -> bytes | None:
    """A whole object, or nothing where there is none."""
    try:
        return store.read(key)
    except DamagedTableError:
        return None


def _cannot_read(path: Path, error: OSError) -> TableError:
    kind = DamagedTableError if isinstance(error, FileNotFoundError) else TableError
    return kind(
        f"cannot read {path}: {error.strerror}. `ensemble table repair` finds what else is missing."
    )


def _cannot_write(path: Path, error: OSError) -> TableError:
    return TableError(
        f"cannot write {path}: {error.strerror}. Nothing is lost: free the disk or mend the "
        "permissions, and run again."
    )


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
