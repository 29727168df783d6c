"""Files on a local disk: published whole and synced, and known by their SHA-256."""

import codecs
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO


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


def publish(file: BinaryIO, path: Path) -> None:
    """Sync a file of `partial_file` and give it its final name, over an older file.

    Args:
        file: All of its content has been written.
        path: The final name, in the folder of the partial file.

    Raises:
        OSError: The disk is full, or the name is that of a folder; `path` is as it was.
    """
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, path)
    sync_folder(path.parent)


def publish_folder(partial: Path, path: Path) -> None:
    """Sync a complete folder and give it its final name, in the place of an older folder.

    Between the two renames a crash leaves no folder at `path`, but never a part of one.

    Args:
        partial: The complete folder, beside `path`.
        path: The final name.

    Raises:
        OSError: The disk is full, or a folder cannot be written to.
    """
    for here, _, names in os.walk(partial, topdown=False):
        for name in names:
            _sync(Path(here, name))
        sync_folder(Path(here))
    replaced = path.with_name(f".{path.name}.{uuid.uuid4().hex}.replaced")
    if path.exists():
        os.replace(path, replaced)
    os.replace(partial, path)
    sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
