"""A store that does something else before one of its operations: what another process does meanwhile."""

from collections.abc import Callable, Iterator, Sequence

from ensemble.storage.store import Staged, Store


class PausingStore:
    """A store that does something else before one of its operations, and counts them."""

    def __init__(self, store: Store, step: int, meanwhile: Callable[[], None]) -> None:
        self._store, self._meanwhile = store, meanwhile
        self.url, self.retries, self.is_remote = store.url, store.retries, store.is_remote
        self.steps, self._left = 0, step

    def _pause(self) -> None:
        self.steps += 1
        self._left -= 1
        if self._left == 0:
            self._meanwhile()

    def create(self, key: str, data: bytes | memoryview) -> bool:
        self._pause()
        return self._store.create(key, data)

    def stage(self, parts: Sequence[bytes | memoryview]) -> Staged:
        self._pause()
        return PausingStaged(self._store.stage(parts), self)

    def sync(self, keys: Sequence[str]) -> None:
        self._pause()
        self._store.sync(keys)

    def replace(self, key: str, data: bytes) -> None:
        self._pause()
        self._store.replace(key, data)

    def read(self, key: str) -> bytes:
        self._pause()
        return self._store.read(key)

    def read_at_rest(self, key: str) -> bytes:
        self._pause()
        return self._store.read_at_rest(key)

    def read_large(self, key: str) -> memoryview:
        self._pause()
        return self._store.read_large(key)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        self._pause()
        return self._store.read_range(key, start, stop)

    def keys(self, folder: str) -> Iterator[str]:
        self._pause()
        return self._store.keys(folder)

    def folders(self, folder: str) -> tuple[str, ...]:
        self._pause()
        return self._store.folders(folder)

    def modified_at(self, key: str) -> float:
        self._pause()
        return self._store.modified_at(key)

    def remove(self, key: str) -> None:
        self._pause()
        self._store.remove(key)

    def leftovers(self) -> tuple[str, ...]:
        self._pause()
        return self._store.leftovers()


class PausingStaged:
    def __init__(self, staged: Staged, store: PausingStore) -> None:
        self._staged, self._store = staged, store

    def publish(self, key: str) -> bool:
        self._store._pause()
        return self._staged.publish(key)

    def __enter__(self) -> "PausingStaged":
        self._staged.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._staged.__exit__(*error)
