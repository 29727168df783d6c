import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensemble.errors import TableBusyError
from ensemble.storage.local_store import LocalStore
from ensemble.table import fence, log_entry
from ensemble.table.commit_log import CommitLog
from ensemble.table.lease import hold, read_holder
from ensemble.table.lease_holder import Holder

HOLDER = Holder(
    host="elsewhere",
    pid=42,
    process="another-boot pid:[1] 7",
    token="t",
    since="2026-01-01T00:00:00+00:00",
    expires_at=0,
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


def put(store: LocalStore, number: int, **changes: object) -> None:
    holder = HOLDER.model_copy(update=changes)
    store.replace(f"lease/{number:08d}.json", holder.model_dump_json().encode())


@contextmanager
def renewing(store: LocalStore, number: int) -> Iterator[None]:
    """A driver of another machine that lives, whose clock stands on the same second for ever."""
    ended = threading.Event()

    def renew() -> None:
        beat = 0
        while not ended.wait(0.02):
            beat += 1
            put(store, number, expires_at=1000 + beat / 1e6)

    put(store, number, expires_at=1000)
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_second_driver_is_refused_and_told_who_holds_the_table_since_when(
    store: LocalStore,
) -> None:
    with (
        renewing(store, 3),
        pytest.raises(
            TableBusyError,
            match=r"process 42 on elsewhere, since 2026-01-01T00:00:00\+00:00\. "
            r"Wait for it, stop it \(`kill 42` on elsewhere\), or give",
        ),
        hold(store, duration_s=1.0),
    ):
        pass


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_driver_of_another_machine_is_gone_once_it_renews_nothing_whatever_its_clock_says(
    store: LocalStore, hours: int
) -> None:
    put(store, 3, expires_at=time.time() + hours * 3600)
    began = time.monotonic()
    said: list[str] = []
    with hold(store, duration_s=0.2, say=said.append) as lease:
        assert lease.number == 4
    assert "last written by process 42 on elsewhere" in said[0]
    assert len(said) == 1
    assert 0.2 < time.monotonic() - began < 5


def test_driver_that_gives_its_lease_back_while_it_is_watched_is_followed_at_once(
    store: LocalStore,
) -> None:
    put(store, 3, expires_at=1000)
    timer = threading.Timer(0.1, put, (store, 3), {"expires_at": 0})
    timer.start()
    with hold(store, duration_s=3.0) as lease:
        assert lease.number == 4
    timer.join()


def test_process_of_this_machine_that_runs_holds_the_table_whatever_its_lease_says(
    store: LocalStore,
) -> None:
    with hold(store):
        holder = read_holder(store)
        assert holder is not None
        old = holder.model_copy(update={"expires_at": time.time() - 3600})
        store.replace("lease/00000001.json", old.model_dump_json().encode())
        with (
            pytest.raises(TableBusyError, match=f"process {os.getpid()} on"),
            hold(store, duration_s=0.01),
        ):
            pass


STRAYS = [
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "._00000001.json",
    ".nfs000000000123",
    "00000001 (1).json",
    "00000001.json~",
    ".00000001.json.swp",
    "00000001.sync-conflict-20260101-000000-ABC.json",
    "zzz.json",
    "99999999.json.tmp",
]


@pytest.mark.parametrize("name", STRAYS)
def test_file_of_another_program_beside_the_lease_makes_no_difference(
    store: LocalStore, name: str
) -> None:
    with hold(store):
        pass
    store.replace(f"lease/{name}", b"stray")
    with hold(store) as lease:
        assert lease.number == 2
        with pytest.raises(TableBusyError), hold(store):
            pass
    assert store.read(f"lease/{name}") == b"stray"
    assert read_holder(store) is None


def test_lease_of_this_process_is_held_once(store: LocalStore) -> None:
    with hold(store), pytest.raises(TableBusyError, match=f"process {os.getpid()} on"), hold(store):
        pass


def test_expired_lease_is_taken_over_under_the_next_number(store: LocalStore) -> None:
    put(store, 3, expires_at=time.time() - 30)
    with hold(store, duration_s=0.05) as lease:
        assert lease.number == 4
        holder = read_holder(store)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert read_holder(store) is None


def test_lease_that_was_given_back_is_free_at_once(store: LocalStore) -> None:
    with hold(store) as first:
        pass
    with hold(store) as second:
        assert second.number == first.number + 1
    assert len(list(store.keys("lease"))) == 1


def test_damaged_lease_holds_nothing(store: LocalStore) -> None:
    store.replace("lease/00000007.json", b"{")
    with hold(store, duration_s=0.05) as lease:
        assert lease.number == 8


def test_lease_is_renewed_while_it_is_held(store: LocalStore) -> None:
    with hold(store, duration_s=0.3) as lease:
        before = read_holder(store)
        deadline = time.monotonic() + 5
        while read_holder(store) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lease.check()


def test_driver_that_was_taken_over_is_told_by_whom_and_leaves_the_lease_alone(
    store: LocalStore,
) -> None:
    with hold(store, duration_s=0.15) as lease:
        put(store, 9, expires_at=time.time() + 60)
        deadline = time.monotonic() + 5
        while not lease.is_lost:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(
            TableBusyError,
            match=r"this run lost the table .*: process 42 on elsewhere.* took it over",
        ):
            lease.check()
    holder = read_holder(store)
    assert holder is not None
    assert holder.pid == 42


def test_killed_driver_of_this_machine_holds_nothing(store: LocalStore) -> None:
    code = (
        "import sys, pathlib; from ensemble.table.lease import hold\n"
        "from ensemble.storage.local_store import LocalStore\n"
        "with hold(LocalStore(pathlib.Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(store.root)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(TableBusyError, match=f"process {process.pid} on"), hold(store):
            pass
        process.kill()
        process.wait()
    with hold(store) as lease:
        assert lease.number == 2


def test_of_two_who_take_over_at_once_one_wins(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = LocalStore.create

    def beaten(self: LocalStore, key: str, data: bytes) -> bool:
        put(self, 1, expires_at=1000)
        return create(self, key, data)

    monkeypatch.setattr(LocalStore, "create", beaten)
    with pytest.raises(TableBusyError, match="process 42 on elsewhere"), hold(store):
        pass


def test_numbers_go_on_after_the_folder_of_the_leases_was_removed(store: LocalStore) -> None:
    with hold(store) as first:
        fence.fence(store, first.number, "a test")
    for key in list(store.keys("lease")):
        store.remove(key)
    with hold(store) as second:
        assert second.number == first.number + 1


def test_takeover_leaves_a_fence_and_a_lease_that_was_given_back_does_not(
    store: LocalStore,
) -> None:
    with hold(store):
        pass
    with hold(store):
        assert list(store.keys("log")) == []
    put(store, 5, expires_at=1000)
    with hold(store, duration_s=0.05) as lease:
        (entry,) = (each for _, each in CommitLog(store).scan())
        assert isinstance(entry, log_entry.Fence)
        assert entry.writer == lease.number == 6
        assert "process 42 on elsewhere" in entry.reason


def test_lease_that_could_not_be_renewed_for_a_while_is_given_back_all_the_same(
    store: LocalStore,
) -> None:
    with hold(store, duration_s=0.06) as lease:
        folder, away = store.root / "lease", store.root / "away"
        folder.rename(away)
        folder.symlink_to(folder)
        deadline = time.monotonic() + 5
        while not lease.is_lost:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(TableBusyError, match=r"its lease could not be renewed \(cannot list"):
            lease.check()
        folder.unlink()
        away.rename(folder)
    with hold(store) as second:
        assert second.number == 2
