"""The folder of an embedded Ray."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.session_folder import remove_leftovers, session_folder, temporary_folder
from ensemble.errors import ClusterError


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def test_nobody_else_can_enter_it_and_nothing_is_left(short: Path) -> None:
    with session_folder() as folder:
        assert folder.parent.parent == short
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert not list(short.iterdir())


def test_the_folder_of_a_process_that_is_gone_is_removed_by_the_next_run(short: Path) -> None:
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        context = session_folder()
        (context.__enter__() / "session").mkdir(parents=True)
        os._exit(0)  # as if killed: nothing is closed
    assert len(list(short.glob("ens-*/r/session"))) == 1
    with session_folder() as folder:
        assert list(short.iterdir()) == [folder.parent]


def test_the_folder_of_a_process_that_lives_and_folders_of_others_stay(short: Path) -> None:
    others = [short / "ens-gpu-x", short / "other"]
    for folder in others:
        folder.mkdir()
    (short / "ens-link").symlink_to(others[1])
    with session_folder() as folder:
        remove_leftovers(short)
        assert (folder.parent / "owner.lock").is_file()
        with (folder.parent / "owner.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert all(folder.is_dir() for folder in others)


@pytest.mark.parametrize("name", ["é", "a b", "x" * 40])
def test_a_folder_that_ray_cannot_use_is_not_used(
    name: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(short / name))
    assert temporary_folder() == Path("/tmp")


def test_a_folder_that_cannot_be_written_is_told(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short / "gone"))
    with pytest.raises(ClusterError, match=r"gone.*No such file.*set TMPDIR"), session_folder():
        pass
