"""Where the table's files live: whole objects, published at once or not at all."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import TableError

_TEMPORARY = ".part-"


@dataclass(frozen=True)
class LocalStore:
    """Files below a folder. A file appears complete under its name, or not at all."""

    root: Path

    def create(self, key: str, data: bytes) -> bool:
        """Publish an object under a name that nothing has yet; False if something has.

        Written beside its place, synced, then linked: the link fails where the name is taken, and
        a crash leaves a temporary file, never half an object.
        """
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
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise _cannot_write(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def read(self, key: str) -> bytes:
        """A whole object.

        Raises:
            TableError: It is not there.
        """
        try:
            return (self.root / key).read_bytes()
        except OSError as error:
            raise TableError(f"cannot read {self.root / key}: {error.strerror}.") from error

    def keys(self, folder: str) -> Iterator[str]:
        """Names of the objects directly below a folder, sorted; none if there is no folder."""
        path = self.root / folder
        if path.is_dir():
            for name in sorted(os.listdir(path)):
                if not name.startswith(_TEMPORARY):
                    yield f"{folder}/{name}"


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
