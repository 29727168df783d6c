"""Errors of the operating system as messages."""

import errno
import os
from pathlib import Path

import pytest

from ensemble.errors import DataError
from jobs.system_errors import SystemFailedError, translated

from .conftest import Command


def _fail(error: BaseException) -> None:
    with translated():
        raise error


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "No space left on device (ENOSPC). Expected room for it: free some space"),
        (errno.EACCES, "Permission denied (EACCES). Expected a place that this user may read"),
        (errno.EROFS, "Read-only file system (EROFS). Expected a place that this user may read"),
        (errno.EIO, "Input/output error (EIO). The disk or the network share fails"),
        (errno.ENAMETOOLONG, "File name too long (ENAMETOOLONG). Expected a name that"),
        (errno.EMFILE, "Too many open files (EMFILE). Expected to open one more file; raise"),
        (errno.ENOENT, "No such file or directory (ENOENT). Expected it to be there"),
        (errno.ENOTDIR, "Not a directory (ENOTDIR). Expected a file where a file belongs"),
    ],
)
def test_the_file_the_cause_and_what_to_do_are_told(number: int, hint: str) -> None:
    with pytest.raises(SystemFailedError) as told:
        _fail(OSError(number, os.strerror(number), "/data/x"))
    assert str(told.value).startswith(f"cannot use '/data/x': {hint}")


def test_an_error_without_a_number_or_file_is_told_as_it_is() -> None:
    with pytest.raises(
        SystemFailedError, match=r"the operating system refuses: broken \(OSError\)\."
    ):
        _fail(OSError("broken"))


def test_memory_and_nesting_are_told() -> None:
    with pytest.raises(SystemFailedError, match="memory is used up"):
        _fail(MemoryError())
    with pytest.raises(DataError, match="nested too deeply"):
        _fail(RecursionError())


def test_a_bug_of_ours_is_no_error_of_the_system() -> None:
    with pytest.raises(ZeroDivisionError):
        _fail(ZeroDivisionError())


def test_verbs_end_with_one_message_where_files_fail(command_here: Command, tmp_path: Path) -> None:
    long, loop, deep = "x" * 300, tmp_path / "loop", tmp_path / "deep"
    loop.symlink_to(loop)
    deep.mkdir()
    (deep / "config.json").write_text("[" * 100_000)
    (deep / "progress.json").write_text('{"a":' * 100_000)
    (tmp_path / "deep.yaml").write_text("[" * 100_000)
    for words in (
        ("validate", long),
        ("validate", loop),
        ("validate", "deep.yaml"),
        ("status", deep),
        ("status", f"./{long}"),
        ("search", deep),
        ("search", long),
        ("resume", f"./{long}"),
        ("resume", loop / "x"),
        ("table", "show", long),
        ("table", "export", deep, "--out", f"{long}.npz"),
        ("members", "deep.yaml"),
        ("members", long),
        ("doctor", f"/proc/{long}"),
        ("subclassifiers", "plan", loop),
        ("summary", loop, deep),
    ):
        done = command_here(*words, cwd=tmp_path)
        assert done.returncode in (1, 2), (words, done.stdout)
        assert "Traceback" not in done.stderr, done.stderr
        assert "Error: " in done.stderr, (words, done.stderr)
