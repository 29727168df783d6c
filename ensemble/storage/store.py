"""What a table, its log and its lease need of a place: whole objects, published at once or not at all."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from ensemble.errors import DamagedTableError

_REMOTE_ATTEMPTS = 3


@runtime_checkable
class Staged(Protocol):
    """Bytes that are ready to be published under a name; without a name they go away with the context."""

    def publish(self, key: str) -> bool:
        """Give the bytes a name that nothing has yet; `Store.sync` makes it survive a crash.

        Returns:
            True if the name now holds exactly these bytes; False if it holds others.
        """

    def __enter__(self) -> "Staged": ...

    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class Store(Protocol):
    """What a table, its log and its lease need of a place. Keys are relative, with `/` between."""

    @property
    def url(self) -> str:
        """URL or path of the place, for messages."""

    @property
    def retries(self) -> int:
        """Number of requests that were made again so far."""

    @property
    def is_remote(self) -> bool:
        """Whether bytes can be damaged on their way here, so that a damaged read is worth another."""

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet.

        Returns:
            True if the name now holds exactly these bytes; False if it holds others.
        """

    def stage(self, parts: Sequence[bytes | memoryview]) -> Staged:
        """Prepare the bytes of an object, so that publishing it takes no time.

        Args:
            parts: Parts of the object, in their order.
        """

    def sync(self, keys: Sequence[str]) -> None:
        """See to it that a crash of the machine cannot undo published names.

        Args:
            keys: Names; earlier ones are safe before later ones are.
        """

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""

    def read(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            DamagedTableError: The object is not there.
            TableError: The object cannot be read now.
        """

    def read_at_rest(self, key: str) -> bytes:
        """Read a whole object, and make sure that the store holds these bytes, damaged or not.

        Raises:
            DamagedTableError: The object is not there.
            TableError: The answer may be that of something between here and the store.
        """

    def read_large(self, key: str) -> memoryview:
        """Read a whole object as `read` does, into the memory that is quickest to fill."""

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes of an object from `start` up to but not `stop`; fewer where it ends before."""

    def keys(self, folder: str) -> Iterator[str]:
        """List the names of objects anywhere below a folder, sorted; none if there is no folder.

        Raises:
            TableError: The folder cannot be listed whole, or the answer is not that of a store.
        """

    def folders(self, folder: str) -> tuple[str, ...]:
        """List the names of folders directly below a folder, sorted."""

    def modified_at(self, key: str) -> float:
        """Tell when an object was written, in seconds since 1970.

        The clock is that of the store, so times of two objects may be compared, and none with the
        clock of this machine.

        Raises:
            DamagedTableError: The object is not there.
        """

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""

    def leftovers(self) -> tuple[str, ...]:
        """List the keys of objects that crashes left half written."""


def read_attempts(store: Store) -> range:
    """Count how often bytes are read that turn out not to be those expected: the way here may have damaged them."""
    return range(_REMOTE_ATTEMPTS if store.is_remote else 1)


def read_if_there(store: Store, key: str) -> bytes | None:
    """Read a whole object; None where there is none."""
    try:
        return store.read(key)
    except DamagedTableError:
        return None
