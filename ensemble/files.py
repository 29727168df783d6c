"""Files on a local disk: published whole and synced, and known by their SHA-256."""

import os
import uuid
from hashlib import file_digest
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader or a crash sees the old content or the new, never a part.

    The bytes are on the disk before the name is, and the name before this returns.

    Args:
        path: Where the file appears; its folder is made where there is none.
        content: What it holds; text is written as UTF-8.

    Raises:
        OSError: The disk is full, or the folder cannot be written to; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """See to it that a crash of the machine cannot undo the names in a folder.

    Raises:
        OSError: The folder is missing, or its file system failed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in 64 hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
