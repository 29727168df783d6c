"""Files on a local disk: published whole and synced, and known by their SHA-256."""

import codecs
import ctypes
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

ABANDONED_S = 86_400.0
"""Seconds after which a partial file that nobody wrote to is taken for that of a writer that was killed."""

_SEAL = "sha256"
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial")
# Of Linux: paths are relative to the working folder, and two names are exchanged.
_HERE, _RENAME_EXCHANGE = -100, 2


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader or a crash sees the old content or the new, never a part.

    The bytes are on the disk before the name is, and the name before this returns.

    Args:
        path: Where the file appears; its folder is made where there is none.
        content: What it holds; text is written as UTF-8.

    Raises:
        OSError: The disk is full, or the folder cannot be written to; `path` is as it was.
    """
    make_folder(path.parent)
    with partial_file(path.parent) as file:
        file.write(content.encode() if isinstance(content, str) else content)
        publish(file, path)


@contextmanager
def partial_file(folder: Path) -> Iterator[BinaryIO]:
    """Open a new file under a temporary name; it is removed unless `publish` gives it its own.

    Args:
        folder: The folder of the final name: a rename is atomic only within one file system.

    Yields:
        The file, open for writing.

    Raises:
        OSError: The folder is missing, or cannot be written to.
    """
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as file:
            yield file
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> tuple[Path, ...]:
    """Remove the partial files that killed writers left anywhere below a folder.

    The last change of one is `ABANDONED_S` ago, which is longer than a writer that lives pauses.

    Returns:
        The files that were removed, sorted; none where there is no folder.

    Raises:
        OSError: A file cannot be removed.
    """
    latest = time.time() - ABANDONED_S
    removed = []
    for here, _, names in os.walk(folder):
        for path in (Path(here, name) for name in names if _PARTIAL.fullmatch(name)):
            try:
                if path.stat().st_mtime < latest:
                    path.unlink()
                    removed.append(path)
            except FileNotFoundError:  # its writer published it, or another run removed it
                continue
    return tuple(sorted(removed))


def publish(file: BinaryIO, path: Path, is_synced: bool = True) -> None:
    """Sync a file of `partial_file` and give it its final name, over an older file.

    Args:
        file: All of its content has been written.
        path: The final name, in the folder of the partial file.
        is_synced: Wait until the disk has it. If not, a power cut may leave a part of it under its name: only for
            what a reader checks and makes again.

    Raises:
        OSError: The disk is full, or the name is that of a folder; `path` is as it was.
    """
    file.flush()
    if is_synced:
        os.fsync(file.fileno())
    os.replace(file.name, path)
    if is_synced:
        sync_folder(path.parent)


def publish_folder(partial: Path, path: Path) -> None:
    """Sync a complete folder and give it its final name, in the place of an older folder.

    A reader finds the older folder or the new one at any moment, and so does whoever comes after a
    crash. Where the system cannot exchange two names at once, as outside Linux, a crash between two
    renames leaves no folder at `path`, but never a part of one.

    Args:
        partial: The complete folder, beside `path`.
        path: The final name.

    Raises:
        OSError: The disk is full, or a folder cannot be written to; `path` is as it was.
    """
    for here, _, names in os.walk(partial, topdown=False):
        for name in names:
            _sync(Path(here, name))
        sync_folder(Path(here))
    replaced = partial
    if not path.exists():
        os.replace(partial, path)
    elif not _exchange(partial, path):
        replaced = path.with_name(f".{path.name}.{uuid.uuid4().hex}.replaced")
        os.replace(path, replaced)
        os.replace(partial, path)
    sync_folder(path.parent)
    # Those that an earlier crash left, too.
    for older in (replaced, *path.parent.glob(f".{path.name}.*.replaced")):
        shutil.rmtree(older, ignore_errors=True)


def overwrite(path: Path, content: bytes) -> None:
    """Write over a file in place, where a full disk has no room for a new one beside it.

    Raises:
        OSError: The file is not there, is shorter than the content, or cannot be written to.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if len(content) > size:
            raise OSError(errno.ENOSPC, f"{len(content)} bytes do not fit into {size}", str(path))
        file.write(content)
        file.truncate()
        os.fsync(file.fileno())


def seal(document: Mapping[str, object]) -> dict[str, object]:
    """Put the SHA-256 of a JSON document into it, as its last key."""
    return {**document, _SEAL: _digest(document)}


def unseal(document: Mapping[str, object]) -> dict[str, object]:
    """Take the SHA-256 out of a JSON document; one of an earlier version may have none.

    Raises:
        ValueError: The document was changed since it was sealed.
    """
    content = {key: value for key, value in document.items() if key != _SEAL}
    if _SEAL in document and document[_SEAL] != _digest(content):
        raise ValueError(
            f"its {_SEAL} is {str(document[_SEAL])[:16]}…, and its content has {_digest(content)[:16]}…: it "
            "was damaged or changed since it was written"
        )
    return content


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that a crash of the machine undoes none of them.

    Raises:
        OSError: A folder cannot be made.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """See to it that a crash of the machine cannot undo the names in a folder.

    Raises:
        OSError: The folder is missing, or its file system failed.
    """
    _sync(folder)


def read_text(path: Path) -> str:
    """Read a text that a person wrote, as UTF-8, or as the mark at its beginning says.

    Raises:
        OSError: The file cannot be read.
        UnicodeError: The file is not text in that encoding.
    """
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _digest(document: Mapping[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two names at once; false where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if not rename(_HERE, os.fsencode(left), _HERE, os.fsencode(right), _RENAME_EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(right))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
