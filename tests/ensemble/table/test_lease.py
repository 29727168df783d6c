import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ensemble.errors import TableBusyError
from ensemble.storage.local_store import LocalStore
from ensemble.table.lease import Holder, hold, read_holder

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


def test_second_driver_is_refused_and_told_who_holds_the_table_since_when(
    store: LocalStore,
) -> None:
    put(store, 3, expires_at=time.time() + 30)
    with (
        pytest.raises(
            TableBusyError,
            match=r"process 42 on elsewhere, since 2026-01-01T00:00:00\+00:00\. Wait .* expires in 3\d s",
        ),
        hold(store),
    ):
        pass


def test_lease_of_this_process_is_held_once(store: LocalStore) -> None:
    with hold(store), pytest.raises(TableBusyError, match=f"process {os.getpid()} on"), hold(store):
        pass


def test_expired_lease_is_taken_over_under_the_next_number(store: LocalStore) -> None:
    put(store, 3, expires_at=time.time() - 30)
    with hold(store) as lease:
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
    with hold(store) as lease:
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
        put(self, 1, expires_at=time.time() + 60)
        return create(self, key, data)

    monkeypatch.setattr(LocalStore, "create", beaten)
    with pytest.raises(TableBusyError, match="process 42 on elsewhere"), hold(store):
        pass
