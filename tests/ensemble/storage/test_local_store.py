import errno
import os
from pathlib import Path

import pytest

from ensemble.errors import DamagedTableError, TableError
from ensemble.storage import local_store
from ensemble.storage.local_store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP], ids=os.strerror)
def no_hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system such as FAT: there is none here that could be mounted."""

    def link(source: Path, target: Path) -> None:
        raise OSError(request.param, os.strerror(request.param), str(target))

    monkeypatch.setattr(os, "link", link)


def test_object_is_created_once_without_hard_links_too(
    store: LocalStore, no_hard_links: None
) -> None:
    assert store.create("a/x", b"one")
    assert store.create("a/x", b"one")
    assert not store.create("a/x", b"two")
    assert store.read("a/x") == b"one"
    with store.stage([b"three"]) as staged:
        assert staged.publish("a/y")
        assert staged.publish("a/y")
        assert not staged.publish("a/x")
    assert store.read("a/y") == b"three"
    assert list(store.keys("")) == ["a/x", "a/y"]
    assert store.leftovers() == ()


def test_file_system_that_can_only_overwrite_is_named(
    store: LocalStore, no_hard_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: Path, target: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", str(target))

    monkeypatch.setattr(local_store, "rename_if_absent", rename)
    with pytest.raises(
        TableError,
        match=r"file system has neither hard links .* nor a rename .*storage\.tables=FOLDER",
    ):
        store.create("a/x", b"one")
    assert list(store.keys("")) == []
    assert store.leftovers() == ()


def test_folder_that_cannot_be_listed_is_no_empty_folder(store: LocalStore) -> None:
    store.create("columns/x", b"x")
    log = store.root / "log"
    log.symlink_to(log)
    for listing in (store.keys, store.folders):
        with pytest.raises(TableError, match=r"cannot list .*log: .* Nothing was changed"):
            list(listing("log"))


def test_folder_that_is_not_there_lists_nothing(store: LocalStore) -> None:
    assert list(store.keys("log")) == []
    assert store.folders("log") == ()
    assert store.leftovers() == ()


def test_folders_of_the_system_are_passed_over(store: LocalStore) -> None:
    store.create("log/x", b"x")
    store.create("log/.snapshot/y", b"y")
    assert list(store.keys("log")) == ["log/x"]


def test_file_is_modified_at_a_time_of_the_file_system(store: LocalStore) -> None:
    store.create("a", b"a")
    store.create("b", b"b")
    os.utime(store.root / "a", (1000, 1000))
    assert store.modified_at("a") == 1000
    assert store.modified_at("b") > 1e9
    with pytest.raises(DamagedTableError, match="cannot read"):
        store.modified_at("c")
