"""What lies below a folder: image files, folders, links that lead nowhere, and what is left aside, counted."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ensemble.errors import ConfigError, DataError
from ensemble.images.decode import SUFFIXES
from ensemble.images.names import is_leftover, to_text

# Folders that links lead to, below one root. Links that double at each level would never end.
_MAX_LINKED_FOLDERS = 10_000

_LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True)
class ImageFile:
    """A file with the suffix of an image.

    Attributes:
        key: Path below the root, with `/` between its parts.
        stamp: What changes with the content: size and time, or size and ETag.
        broken: Why there is nothing to read, where the file is a link that leads nowhere.
    """

    key: str
    stamp: str = ""
    broken: str | None = None


@dataclass(frozen=True)
class Listing:
    """What lies below a folder or a prefix.

    Attributes:
        place: The folder, or s3://bucket/prefix, as messages call it.
        files: Image files, in the order of their paths.
        folders: Paths of all folders below the root.
        notes: What was left aside, a sentence each.
    """

    place: str
    files: tuple[ImageFile, ...]
    folders: frozenset[str]
    notes: tuple[str, ...] = ()


def is_image_name(name: str) -> bool:
    """Tell whether a name ends as an image's."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def in_order(files: Iterable[ImageFile]) -> tuple[ImageFile, ...]:
    """Sort files by their paths, folder by folder."""
    return tuple(sorted(files, key=lambda file: file.key.split("/")))


@dataclass
class Aside:
    """Files and folders that are no images, counted by what they are, with the first of each kind."""

    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, key: str) -> None:
        """Count one."""
        self._counts[kind] += 1
        self._first[kind] = min(key, self._first.get(kind, key))

    def notes(self) -> tuple[str, ...]:
        """Give a sentence for each kind."""
        return tuple(
            f"left aside: {count} {kind}, as {self._first[kind]!r}"
            for kind, count in sorted(self._counts.items())
        )


LEFTOVERS = "hidden files or leftovers of other systems"
OTHER_FILES = "files without the suffix of an image"
NO_FILES = "pipes, sockets or devices"
CIRCLES = "links back to a folder around them"


def walk(root: Path) -> Listing:
    """List a folder, and every folder below it that is there or that a link leads to.

    Raises:
        ConfigError: The root cannot be listed; or a link directly below it, which may be a class, leads
            nowhere; or links lead in circles.
        DataError: A folder or file below the root cannot be looked at now.
    """
    return _Walk(root).listing()


class _Walk:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: list[ImageFile] = []
        self._folders: set[str] = set()
        self._aside = Aside()
        self._num_linked = 0

    def listing(self) -> Listing:
        # Path, key and the identities of the folders around it, for each folder to be listed.
        waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]]
        waiting = [(str(self._root), "", (_identity(self._root),))]
        while waiting:
            path, key, around = waiting.pop()
            for entry in self._entries(path, key):
                entry_key = f"{key}/{to_text(entry.name)}" if key else to_text(entry.name)
                if (identity := self._look(entry, entry_key, around)) is not None:
                    waiting.append((entry.path, entry_key, (*around, identity)))
        return Listing(
            to_text(self._root),
            in_order(self._files),
            frozenset(self._folders),
            self._aside.notes(),
        )

    def _entries(self, path: str, key: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if key:
                raise _not_listed(path, error) from error
            raise ConfigError(
                f"cannot read the image folder {to_text(path)!r}: {error.strerror}. Expected a folder "
                "with one sub-folder per class; set images.source.path."
            ) from error

    def _look(
        self, entry: "os.DirEntry[str]", key: str, around: tuple[tuple[int, int], ...]
    ) -> tuple[int, int] | None:
        """Take an entry in; return its identity if it is a folder to be listed."""
        if is_leftover(entry.name):
            self._aside.add(LEFTOVERS, key)
            return None
        try:
            status = entry.stat()
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise _not_listed(entry.path, error) from error
            if entry.is_symlink():
                self._look_at_broken(entry, key)
            return None  # otherwise it went away while the folder was listed
        if stat.S_ISDIR(status.st_mode):
            identity = status.st_dev, status.st_ino
            if identity in around:
                self._aside.add(CIRCLES, key)
                return None
            self._count_link(entry)
            self._folders.add(key)
            return identity
        if not stat.S_ISREG(status.st_mode):
            self._aside.add(NO_FILES, key)
        elif is_image_name(key):
            self._files.append(ImageFile(key, f"{status.st_size}\0{status.st_mtime_ns}"))
        else:
            self._aside.add(OTHER_FILES, key)
        return None

    def _look_at_broken(self, entry: "os.DirEntry[str]", key: str) -> None:
        target = to_text(os.readlink(entry.path))
        if is_image_name(key):
            self._files.append(ImageFile(key, broken=f"a link to {target!r}, which is not there"))
        elif PurePosixPath(key).suffix:
            self._aside.add(OTHER_FILES, key)
        elif "/" in key:  # a folder of images that was there once, for all that is known
            self._files.append(ImageFile(key, broken=f"a link to {target!r}, which is not there"))
        else:
            raise ConfigError(
                f"the link {to_text(entry.path)!r} leads to {target!r}, which is not there: if it is a "
                "class, its images would be missing. Mend or remove the link."
            )

    def _count_link(self, entry: "os.DirEntry[str]") -> None:
        self._num_linked += entry.is_symlink()
        if self._num_linked > _MAX_LINKED_FOLDERS:
            raise ConfigError(
                f"more than {_MAX_LINKED_FOLDERS} linked folders below {to_text(self._root)!r}, the last "
                f"{to_text(entry.path)!r}: links seem to lead in circles. Remove those that do."
            )


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)  # listing it says what is wrong
    return status.st_dev, status.st_ino


def _not_listed(path: str, error: OSError) -> DataError:
    return DataError(
        f"cannot look at {to_text(path)!r}: {error.strerror}. Expected to list every image; mend the cause "
        "and run the same command again, or remove the entry."
    )
