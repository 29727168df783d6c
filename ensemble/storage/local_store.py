"""A store in a folder of this machine: a file appears complete under its name, or not at all."""

import errno
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath

import numpy as np

from ensemble.errors import DamagedTableError, TableError
from ensemble.files import make_folder, sync_folder
from ensemble.storage.exclusive_rename import rename_if_absent

_TEMPORARY = ".part-"
_LEFTOVER = re.compile(r"\.part-[0-9a-f]+")
# What systems answer where a file system lacks hard links or exclusive renames (FAT, some of FUSE).
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LocalStore:
    """Files below a folder; see `Store` for what the methods promise."""

    root: Path
    retries = 0
    is_remote = False

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Publish an object under a name that nothing has yet; see `Store.create`."""
        with self.stage([data]) as staged:
            is_ours = staged.publish(key)
        self.sync([key])
        return is_ours

    def stage(self, parts: Sequence[bytes | memoryview]) -> "StagedFile":
        """Write a temporary file and sync it; a crash leaves that, never half an object."""
        temporary = self.root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            make_folder(self.root)
            with temporary.open("wb", buffering=0) as file:
                for chunk in _chunks(parts):
                    _write(file, chunk)
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise _cannot_write(temporary, error) from error
        return StagedFile(temporary, self)

    def sync(self, keys: Sequence[str]) -> None:
        """Sync the folders of some names, one after another.

        A file system with a journal writes the names that were given meanwhile along with the first
        folder, and has nothing left to do for the others.
        """
        for folder in dict.fromkeys((self.root / key).parent for key in keys):
            sync_folder(folder)

    def replace(self, key: str, data: bytes) -> None:
        """Publish an object whether or not the name is taken."""
        path = self.root / key
        with self.stage([data]) as staged:
            try:
                make_folder(path.parent)
                os.replace(staged.path, path)
            except OSError as error:
                raise _cannot_write(path, error) from error
        self.sync([key])

    def read(self, key: str) -> bytes:
        """Read a whole object; see `Store.read`."""
        try:
            return (self.root / key).read_bytes()
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def read_at_rest(self, key: str) -> bytes:
        """Read a whole object: nothing lies between here and the disk."""
        return self.read(key)

    def read_large(self, key: str) -> memoryview:
        """Read a whole object; NumPy asks for large pages, which halves the time that page faults take."""
        try:
            return np.fromfile(self.root / key, np.uint8).data
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes of an object; see `Store.read_range`."""
        try:
            with (self.root / key).open("rb", buffering=0) as file:
                file.seek(start)
                return file.read(stop - start)
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def keys(self, folder: str) -> Iterator[str]:
        """List the names of objects anywhere below a folder, sorted; see `Store.keys`."""
        for key in self._files(folder):
            if not PurePosixPath(key).name.startswith(_TEMPORARY):
                yield key

    def _files(self, folder: str) -> list[str]:
        keys: list[str] = []
        try:
            for here, folders, names in os.walk(self.root / folder, onerror=_raise_unless_absent):
                # What begins with a dot is of the system or of another program.
                folders[:] = [name for name in folders if not name.startswith(".")]
                place = Path(here).relative_to(self.root)
                keys += [(place / name).as_posix() for name in names]
        except OSError as error:
            raise _cannot_list(self.root / folder, error) from error
        return sorted(keys)

    def folders(self, folder: str) -> tuple[str, ...]:
        """List the names of the folders in a folder, sorted."""
        try:
            return tuple(
                sorted(path.name for path in (self.root / folder).iterdir() if path.is_dir())
            )
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise _cannot_list(self.root / folder, error) from error

    def modified_at(self, key: str) -> float:
        """Tell when a file was written, by the file system's clock; see `Store.modified_at`."""
        try:
            return (self.root / key).stat().st_mtime
        except OSError as error:
            raise _cannot_read(self.root / key, error) from error

    def remove(self, key: str) -> None:
        """Remove an object."""
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.root / key, error) from error

    def leftovers(self) -> tuple[str, ...]:
        """List the keys of temporary files; those of a live writer are among them."""
        return tuple(key for key in self._files("") if _LEFTOVER.fullmatch(PurePosixPath(key).name))


class StagedFile:
    """A temporary file, complete and synced, before it gets its name.

    Args:
        path: The temporary file.
        store: The store that it is for.
    """

    def __init__(self, path: Path, store: LocalStore) -> None:
        self.path = path
        self._store = store
        self._is_temporary = True

    def publish(self, key: str) -> bool:
        """Give the file a name, which fails where the name is taken; see `Staged.publish`."""
        path = self._store.root / key
        try:
            make_folder(path.parent)
            self._name(path)
        except FileExistsError as error:
            if not path.is_file():
                raise _cannot_write(path, error) from error
            return self._store.read(key) == self.path.read_bytes()
        except OSError as error:
            raise _cannot_write(path, error) from error
        return True

    def _name(self, path: Path) -> None:
        """Link the file to a name; move it there where the file system knows no hard links.

        Raises:
            TableError: The file system can do neither without overwriting another writer's file.
            OSError: The name is taken, the disk is full, or the folder cannot be written to.
        """
        try:
            os.link(self.path, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            try:
                rename_if_absent(self.path, path)
            except OSError as second:
                if second.errno not in _NO_HARD_LINKS:
                    raise
                raise TableError(
                    f"cannot keep a table in {self._store.root}: its file system has neither hard links "
                    f"({error.strerror}) nor a rename that never overwrites ({second.strerror}), so two "
                    "runs could overwrite each other. Keep the table on another disk or on S3, with "
                    "storage.tables=FOLDER."
                ) from error
            self.path, self._is_temporary = path, False

    def __enter__(self) -> "StagedFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_temporary:
            self.path.unlink(missing_ok=True)


def _chunks(parts: Sequence[bytes | memoryview]) -> Iterator[memoryview]:
    for part in parts:
        content = memoryview(part)
        for start in range(0, len(content), _CHUNK_BYTES):
            yield content[start : start + _CHUNK_BYTES]


def _write(file: FileIO, chunk: memoryview) -> None:
    """Write all of a chunk, and let the disk begin with it while the next one is copied."""
    start = file.tell()
    written = 0
    while written < len(chunk):
        written += file.write(chunk[written:])
    # Linux begins to write such a range back; it forgets clean pages only, and these are not yet.
    if hasattr(os, "posix_fadvise") and written == _CHUNK_BYTES:
        os.posix_fadvise(file.fileno(), start, written, os.POSIX_FADV_DONTNEED)


def _raise_unless_absent(error: OSError) -> None:
    # A folder that another process removes meanwhile lists nothing; any other failure hides files.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _cannot_list(path: Path, error: OSError) -> TableError:
    return TableError(
        f"cannot list {path}: {error.strerror}. Nothing was changed: mend the folder or its permissions, "
        "and run again."
    )


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
