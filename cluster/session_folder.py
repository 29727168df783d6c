"""The folder of an embedded Ray: private to its user, short enough for sockets, and removed by later runs."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ensemble.errors import ClusterError

_PREFIX, _LOCK, _SESSION = "ens-", "owner.lock", "r"
_FALLBACK = "/tmp"
# The longest path of a socket that Linux takes, and what Ray puts below its session's folder.
_MAX_SOCKET_BYTES = 107
_LONGEST_BELOW = (
    f"/{_PREFIX}12345678/{_SESSION}"
    "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
)
# Ray encodes the path as ASCII, and divides command lines that hold it at blanks.
_PLAIN = re.compile(r"[A-Za-z0-9/._+@=-]+")


@contextmanager
def session_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, and remove it at the end.

    Ray opens its own folder to every user of the machine, so it lies inside this one. A lock tells
    whether its owner lives: folders of owners that were killed are removed first.

    Yields:
        The folder to give to Ray.

    Raises:
        ClusterError: No folder can be made.
    """
    above = temporary_folder()
    try:
        remove_leftovers(above)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
        lock = _lock(folder)
    except OSError as error:
        raise ClusterError(
            f"cannot make a folder for Ray's sockets below {str(above)!r}: {error.strerror}. "
            "Expected a folder on a local disk that can be written, with a short path; set TMPDIR "
            "to one."
        ) from error
    with lock:
        try:
            yield folder / _SESSION
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_folder() -> Path:
    """Choose where the folder is made: the folder for temporary files if Ray can use it, else /tmp."""
    folder = tempfile.gettempdir()
    is_short = len(os.fsencode(folder + _LONGEST_BELOW)) <= _MAX_SOCKET_BYTES
    return Path(folder if is_short and _PLAIN.fullmatch(folder) else _FALLBACK)


def remove_leftovers(above: Path) -> None:
    """Remove the folders of this user's runs whose process is gone.

    Raises:
        OSError: The folder `above` cannot be listed.
    """
    for folder in above.glob(f"{_PREFIX}*"):
        lock = folder / _LOCK
        try:
            is_ours = not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
            if not is_ours or not lock.is_file():
                continue
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its owner lives, or another run is removing it


def _lock(folder: Path) -> BinaryIO:
    # Locked before it has its name, so that no other run finds it without its owner.
    partial = folder / f"{_LOCK}.partial"
    file = partial.open("xb")
    fcntl.flock(file, fcntl.LOCK_EX)
    partial.rename(folder / _LOCK)
    return file
