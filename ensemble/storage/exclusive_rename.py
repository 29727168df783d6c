"""A rename that fails where the name is taken, for file systems without hard links."""

import ctypes
import errno
import os
from pathlib import Path

_CURRENT_FOLDER = -100  # AT_FDCWD of Linux
_NO_REPLACE = 1  # RENAME_NOREPLACE of Linux
_EXCLUSIVE = 4  # RENAME_EXCL of macOS


def rename_if_absent(source: Path, target: Path) -> None:
    """Rename a file in one step, unless the new name is taken.

    Raises:
        FileExistsError: The name is taken.
        OSError: The system or the file system knows no such rename, or the folder cannot be written.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(source), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_CURRENT_FOLDER, old, _CURRENT_FOLDER, new, _NO_REPLACE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(old, new, _EXCLUSIVE)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
