"""The one place where an error of the operating system becomes a message that says what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ensemble.errors import DataError, ProjectError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FAILING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENXIO, errno.ENODEV)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ, errno.EINVAL)
_KIND = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
_MISSING = (errno.ENOENT,)
_MEMORY = (errno.ENOMEM,)

_HINTS = {
    _FULL: "Expected room for it: free some space or quota there, and give the same command again.",
    _CLOSED: "Expected a place that this user may read and write; change its rights, or name another.",
    _FAILING: "The disk or the network share fails. See that it is there, and give the same command again.",
    _TOO_MANY: "Expected to open one more file; raise the limit with `ulimit -n 65536`.",
    _NAME: "Expected a name that the file system takes; name a shorter or plainer path.",
    _KIND: "Expected a file where a file belongs, and a folder where a folder does; look at the path.",
    _MISSING: "Expected it to be there; look at the path.",
    _MEMORY: "Free memory, and give the same command again.",
}


class SystemFailedError(ProjectError):
    """The operating system refused what the command needs."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the operating system, of memory and of endless nesting into ours.

    What has a better message where it comes up is translated there; this is for all the rest.

    Raises:
        SystemFailedError: A file or a connection failed, or memory is used up.
        DataError: A file is nested without end.
    """
    try:
        yield
    except OSError as error:
        raise SystemFailedError(explain(error)) from error
    except MemoryError as error:
        raise SystemFailedError(
            f"memory is used up ({error or 'no size was told'}). Expected what is read to fit into "
            "this machine's memory; free some, or read less at a time."
        ) from error
    except RecursionError as error:
        raise DataError(
            "a file is nested too deeply to be read. Expected the few levels that a config, a "
            "report or a list has; look at the files that the command names."
        ) from error


def explain(error: OSError) -> str:
    """Say what failed, on which file, and what to do."""
    files = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    where = f" {' and '.join(map(repr, files))}" if files else ""
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    what = error.strerror or str(error) or "no reason was told"
    hint = next((text for codes, text in _HINTS.items() if error.errno in codes), "")
    subject = f"cannot use{where}" if where else "the operating system refuses"
    return f"{subject}: {what} ({code}). {hint}".rstrip()


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes | os.PathLike)
