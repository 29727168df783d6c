"""What a table, its log and its lease need of a place: whole objects, published at once or not at all."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from ensemble.errors import DamagedTableError


@runtime_checkable
class Staged(Protocol):
    """Bytes that are ready to be published under a name. Leaving the context drops what was not."""

    def publish(self, key: str) -> bool:
        """Give them a name that nothing has yet; `Store.sync` makes a crash respect it.

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

    def stage(self, parts: Sequence[bytes | memoryview]) -> Staged:
        """Bring the bytes of an object near, so that publishing it takes no time.

        Args:
            parts: They follow one another in the object.
        """

    def sync(self, keys: Sequence[str]) -> None:
        """See to it that a crash of the machine cannot undo published names.

        Args:
            keys: Earlier ones are safe before later ones are.
        """

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""

    def read(self, key: str) -> bytes:
        """A whole object.

        Raises:
            DamagedTableError: The object is not there.
            TableError: The object cannot be read now.
        """

    def read_large(self, key: str) -> memoryview:
        """A whole object as `read` gives it, in the memory that is quickest to fill."""

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an object, from `start` up to but not `stop`; fewer where it ends before."""

    def keys(self, folder: str) -> Iterator[str]:
        """Names of the objects anywhere below a folder, sorted; none if there is no folder."""

    def folders(self, folder: str) -> tuple[str, ...]:
        """Names of what lies directly below a folder and has objects below it, sorted."""

    def remove(self, key: str) -> None:
        """Take an object away; nothing happens if it is not there."""

    def leftovers(self) -> tuple[str, ...]:
        """Keys of what crashes left half written."""


def read_if_there(store: Store, key: str) -> bytes | None:
    """A whole object, or nothing where there is none."""
    try:
        return store.read(key)
    except DamagedTableError:
        return None
