import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DamagedTableError, TableBusyError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.table import fence, log_entry, log_names
from ensemble.table.block import LogitBlock
from ensemble.table.commit_log import CommitLog
from ensemble.table.lease import hold
from ensemble.table.log_entry import Commit, Fence, Removal
from ensemble.table.logit_table import LogitTable

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]
STRAYS = [
    "log/.DS_Store",
    "log/Thumbs.db",
    "log/._00000001.json",
    "log/.nfs0000000000000123",
    "log/00000001 (1).json",
    "log/00000001.json~",
    "log/.00000001.json.swp",
    "log/00000002.sync-conflict-20260101-000000-ABC.json",
    "log/00000007.json.tmp",
    "log/a.json",
    "log/99999999999.json",
    "log/.sync/00000004.json",
    "columns/.DS_Store",
    "columns/Thumbs.db",
    "columns/0123456789abcdef/Thumbs.db",
    "columns/0123456789abcdef/0123456789abcdef (1).arrow",
]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


@pytest.fixture
def member(make_member: MakeMember) -> Member:
    return make_member("a")


@pytest.fixture
def filled(store: LocalStore, member: Member, make_block: MakeBlock) -> LocalStore:
    """A table of one column in three blocks of four images."""
    table = LogitTable(store)
    for start in (0, 4, 8):
        table.commit(member, make_block(member, IDS[start : start + 4]))
    return store


def change(store: LocalStore, number: int, **changes: object) -> None:
    """Forge an entry whose own digest is right."""
    value = json.loads(store.read(log_names.key(number))) | changes
    del value["sha256_of_entry"]
    content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
    ending = f', "sha256_of_entry": "{sha256(content).hexdigest()}"}}\n'
    store.replace(log_names.key(number), content + ending.encode())


@pytest.mark.parametrize("name", STRAYS)
def test_file_of_another_program_makes_no_difference(
    filled: LocalStore, member: Member, make_block: MakeBlock, name: str
) -> None:
    (filled.root / name).parent.mkdir(exist_ok=True)
    (filled.root / name).write_bytes(b"stray")
    table = LogitTable(filled)
    assert table.missing(member.column, IDS) == ()
    table.commit(member, make_block(member, ["new"]))
    assert LogitTable(filled).missing(member.column, [*IDS, "new"]) == ()


def test_shard_that_is_alone_with_files_of_other_programs_is_no_lost_log(
    filled: LocalStore, member: Member
) -> None:
    for name in [*filled.keys("log"), *list(filled.keys("columns"))[1:]]:
        filled.remove(name)
    (filled.root / "columns" / ".DS_Store").write_bytes(b"stray")
    (filled.root / "columns" / "Thumbs.db").write_bytes(b"stray")
    assert LogitTable(filled).missing(member.column, IDS) == tuple(IDS)


@dataclass(frozen=True)
class LateStore(LocalStore):
    """A store whose listings lack some names for a while."""

    hidden: set[str] = field(default_factory=set)

    def keys(self, folder: str) -> Iterator[str]:
        yield from (name for name in super().keys(folder) if name not in self.hidden)


@pytest.mark.parametrize("hidden", [(0, 1, 2), (0,), (1,), (2,), (1, 2)])
def test_entries_that_a_listing_lacks_are_read_all_the_same(
    filled: LocalStore, member: Member, hidden: Sequence[int]
) -> None:
    late = LateStore(filled.root, {log_names.key(number) for number in hidden})
    assert LogitTable(late).missing(member.column, IDS) == ()


def test_entries_of_version_3_are_read_and_followed(
    filled: LocalStore, member: Member, make_block: MakeBlock
) -> None:
    before = LogitTable(filled).commits()
    for number in range(3):
        value = json.loads(filled.read(log_names.key(number)))
        assert value["version"] == 4
        change(filled, number, version=3)
    table = LogitTable(filled)
    assert [c.model_copy(update={"version": 4}) for c in table.commits()] == list(before)
    with hold(filled) as lease:
        LogitTable(filled, lease=lease).commit(member, make_block(member, ["new"]))
    assert LogitTable(filled).missing(member.column, [*IDS, "new"]) == ()


def test_entry_of_an_unknown_version_is_named(filled: LocalStore) -> None:
    change(filled, 1, version=6)
    with pytest.raises(DamagedTableError, match="it is of version 6, expected 3, 4 or 5"):
        LogitTable(filled)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside.arrow",
        "columns/../../x.arrow",
        "columns/0123456789abcdef/../../lease/00000001.json",
        "log/00000000.json",
        "columns/0123456789abcdef/0123456789abcdef.arrow\n",
        "columns/0123456789ABCDEF/0123456789abcdef.arrow",
        "columns/0123456789abcdef/0123456789abcdef.arrow\0",
        "",
    ],
)
def test_entry_whose_path_is_no_shard_of_the_table_is_damaged(
    filled: LocalStore, path: str
) -> None:
    change(filled, 1, path=path)
    with pytest.raises(
        DamagedTableError,
        match=r"00000001\.json is damaged: it is not an entry \('commit'\.'path': ",
    ):
        LogitTable(filled)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 10**18},
        {"values_start": 10**9},
        {"size_bytes": 1},
        {"size_bytes": 10**15},
        {"pieces": []},
        {"pieces": ["x" * 64]},
        {"sha256": "z" * 64},
        {"image_ids": [1, 2]},
        {"image_ids": [f"{i}" for i in range(10**4)]},
        {"kind": "none"},
        {"entry": -1, "kind": "removal"},
    ],
)
def test_entry_whose_numbers_cannot_be_is_damaged(
    filled: LocalStore, changes: dict[str, object]
) -> None:
    change(filled, 1, **changes)
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: it is not an entry"):
        LogitTable(filled)


@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe", b'{"a": ' * 100_000, b"1" * 5000])
def test_entry_that_no_parser_takes_is_damaged(filled: LocalStore, content: bytes) -> None:
    filled.replace(log_names.key(1), content)
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: "):
        LogitTable(filled)


def test_driver_of_an_earlier_lease_commits_nothing_after_a_fence(
    store: LocalStore, member: Member, make_block: MakeBlock
) -> None:
    with hold(store) as lease:
        table = LogitTable(store, lease=lease)
        table.commit(member, make_block(member, IDS[:4]))
        fence.fence(store, lease.number + 1, "it was tried")
        with pytest.raises(
            TableBusyError,
            match=r"this run lost the table .*entry 1 of the commit log.*it was tried",
        ):
            table.commit(member, make_block(member, IDS[4:8]))
        with pytest.raises(TableBusyError, match=r"lease 2 has fenced the commit log, .* is 1"):
            LogitTable(store, lease=lease).commit(member, make_block(member, IDS[4:8]))
    assert LogitTable(store).missing(member.column, IDS) == tuple(IDS[4:])


def test_entry_of_an_earlier_lease_after_a_fence_does_not_count(
    filled: LocalStore, member: Member
) -> None:
    late = log_entry.decode(2, filled.read(log_names.key(2)))
    filled.remove(log_names.key(2))
    assert fence.fence(filled, 7, "it was tried") == 2
    for number, writer in ((3, 6), (4, 7)):
        entry = late.model_copy(update={"writer": writer})
        filled.create(log_names.key(number), log_entry.encode(number, entry))
        expected = tuple(IDS[8:]) if writer < 7 else ()
        assert LogitTable(filled).missing(member.column, IDS) == expected
    stale = Removal(writer=6, entry=0, reason="of a repair that lost the table")
    filled.create(log_names.key(5), log_entry.encode(5, stale))
    assert LogitTable(filled).missing(member.column, IDS) == ()


def test_writer_without_a_lease_is_shut_out_by_a_later_one_and_goes_on_after_it(
    filled: LocalStore, member: Member, make_block: MakeBlock
) -> None:
    before = LogitTable(filled)
    fence.fence(filled, 7, "it was tried")
    with pytest.raises(TableBusyError, match="it was tried"):
        before.commit(member, make_block(member, ["new"]))
    LogitTable(filled).commit(member, make_block(member, ["new"]))
    after = LogitTable(filled)
    assert after.missing(member.column, [*IDS, "new"]) == ()
    assert max(commit.writer for commit in after.commits()) == 7


def test_fence_comes_after_what_an_earlier_driver_has_written_meanwhile(
    filled: LocalStore, member: Member, make_block: MakeBlock
) -> None:
    late = LateStore(filled.root, {log_names.key(number) for number in (1, 2)})
    assert fence.fence(late, 1, "it was tried") == 3
    with pytest.raises(TableBusyError, match=r"this run lost the table .*entry 3 .*a later lease"):
        fence.begin(filled, 0, 1, "it was tried again")
    assert fence.begin(filled, 0, 2, "it was tried again") == 4


def test_lost_log_gets_no_fence_that_would_hide_the_loss(
    filled: LocalStore, member: Member
) -> None:
    for name in list(filled.keys("log")):
        filled.remove(name)
    assert fence.fence(filled, 7, "it was tried") is None
    assert list(filled.keys("log")) == []


@pytest.mark.parametrize(
    "entry",
    [Fence(writer=3, reason="r"), Removal(writer=3, entry=1, reason="r")],
    ids=["fence", "removal"],
)
def test_entries_come_back_as_they_were_written(entry: Fence | Removal) -> None:
    assert log_entry.decode(5, log_entry.encode(5, entry)) == entry


def test_commit_comes_back_as_it_was_written(filled: LocalStore) -> None:
    for number, commit in CommitLog(filled).read():
        assert isinstance(commit, Commit)
        assert log_entry.decode(number, log_entry.encode(number, commit)) == commit
        assert np.isfinite(commit.seconds)


@dataclass(frozen=True)
class RemoteStore(LocalStore):
    """A folder whose log is read as that of S3 is: many entries side by side."""

    is_remote = True


@pytest.fixture
def long(store: LocalStore, member: Member, make_block: MakeBlock) -> LocalStore:
    """A table of forty entries."""
    table = LogitTable(store)
    for number in range(40):
        table.commit(member, make_block(member, [f"{number}"]))
    return store


def test_entries_that_are_read_side_by_side_count_as_in_turn(
    long: LocalStore, member: Member
) -> None:
    assert LogitTable(RemoteStore(long.root)).commits() == LogitTable(long).commits()
    long.remove(log_names.key(33))
    with pytest.raises(DamagedTableError, match=r"has log/00000034\.json where entry .*33\.json"):
        LogitTable(RemoteStore(long.root))
    found = list(CommitLog(RemoteStore(long.root)).scan())
    assert [number for number, _ in found] == list(range(40))
    assert [n for n, entry in found if isinstance(entry, DamagedTableError)] == [33]


def test_commits_share_the_ids_and_the_identity_that_are_equal(
    store: LocalStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    table = LogitTable(store)
    for name in "ab":
        for start in (0, 4):
            table.commit(make_member(name), make_block(make_member(name), IDS[start : start + 4]))
    for first, second, third, fourth in (table.commits(), LogitTable(store).commits()):
        assert first.image_ids is third.image_ids
        assert second.image_ids is fourth.image_ids
        assert first.identity is second.identity
        assert first.identity != third.identity
