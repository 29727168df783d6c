import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ensemble.errors import DamagedTableError, TableBusyError, TableError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.table import fence, log_entry, log_names
from ensemble.table.block import LogitBlock
from ensemble.table.export import export_table
from ensemble.table.kind_difference import compare_kinds
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.overview import compare, summarise
from ensemble.table.repair import Collection, collect, find_faults, repair, unreferenced

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


@pytest.fixture
def members(make_member: MakeMember) -> tuple[Member, Member]:
    return make_member("a"), make_member("b")


@pytest.fixture
def filled(
    store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> dict[str, bytes]:
    """Two columns in three blocks each; the bytes of every shard by key."""
    fill(store, members, make_block)
    return shards(store)


def fill(store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock) -> int:
    """What a run does: commit what is missing; tell how many blocks that was."""
    table, computed = LogitTable(store), 0
    for start in (0, 4, 8):
        for member in members:
            if missing := table.missing(member.column, IDS[start : start + 4]):
                table.commit(member, make_block(member, missing))
                computed += 1
    return computed


@pytest.fixture
def refill(
    store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> Callable[[], int]:
    """Does what the next run does, and tells how many blocks that was."""
    return lambda: fill(store, members, make_block)


def shards(store: LocalStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.keys("columns")}


def commit(store: LocalStore, number: int) -> log_entry.Commit:
    entry = log_entry.decode(number, store.read(log_names.key(number)))
    assert isinstance(entry, log_entry.Commit)
    return entry


def flip(store: LocalStore, key: str) -> None:
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 8
    store.replace(key, bytes(data))


def copy_another(store: LocalStore) -> None:
    other = commit(store, 1)
    forged = commit(store, 2).model_copy(
        update={"path": other.path, "sha256": other.sha256, "pieces": other.pieces}
    )
    store.replace(log_names.key(2), log_entry.encode(2, forged))


DAMAGE: dict[str, tuple[Callable[[LocalStore], None], int, str]] = {
    "a flipped bit": (lambda s: flip(s, commit(s, 1).path), 1, "its sha256 is not the committed"),
    "a truncated shard": (
        lambda s: s.replace(commit(s, 4).path, s.read(commit(s, 4).path)[:-9]),
        1,
        "its sha256 is not the committed",
    ),
    "a missing shard": (lambda s: s.remove(commit(s, 0).path), 1, "No such file"),
    "a shard of another column": (copy_another, 1, "belongs to column"),
    "a flipped bit in an entry": (lambda s: flip(s, log_names.key(3)), 1, "is damaged"),
    "an empty entry": (lambda s: s.replace(log_names.key(0), b""), 1, "is damaged"),
    "an empty shard": (
        lambda s: s.replace(commit(s, 4).path, b""),
        1,
        "its sha256 is not the committed",
    ),
    "a missing entry": (lambda s: s.remove(log_names.key(2)), 1, "an entry was removed"),
    "a shard and another's entry": (
        lambda s: (flip(s, commit(s, 1).path), flip(s, log_names.key(5)))[0],
        2,
        "damaged",
    ),
}


@pytest.mark.parametrize(("damage", "lost", "reason"), DAMAGE.values(), ids=DAMAGE.keys())
def test_repair_takes_out_what_is_damaged_and_the_next_run_computes_exactly_that(
    store: LocalStore,
    filled: dict[str, bytes],
    members: tuple[Member, Member],
    make_block: MakeBlock,
    damage: Callable[[LocalStore], None],
    lost: int,
    reason: str,
    refill: Callable[[], int],
) -> None:
    damage(store)
    found = find_faults(store)
    assert len(found) == lost
    assert reason in found[0].reason
    with hold(store) as lease:
        assert repair(store, lease) == found
    assert find_faults(store) == ()
    assert refill() == lost
    assert shards(store) == filled
    for member in members:
        rows = LogitTable(store).read(member.column, IDS)
        assert np.array_equal(rows, make_block(member, IDS).log_probabilities)


def test_repair_of_a_lost_log_begins_a_new_one_and_leaves_every_file(
    store: LocalStore, filled: dict[str, bytes], refill: Callable[[], int]
) -> None:
    for key in list(store.keys("log")):
        store.remove(key)
    with pytest.raises(DamagedTableError, match="has 6 shard files and no commit log"):
        LogitTable(store)
    (fault,) = find_faults(store)
    assert (fault.path, "6 shard files and no commit log" in fault.reason) == ("log", True)
    with hold(store) as lease:
        assert repair(store, lease) == (fault,)
    assert shards(store) == filled
    assert find_faults(store) == ()
    assert refill() == 6
    assert shards(store) == filled


def test_shard_whose_entry_was_the_last_and_is_lost_is_named_and_adopted_by_the_next_run(
    store: LocalStore, filled: dict[str, bytes], refill: Callable[[], int]
) -> None:
    last = list(store.keys("log"))[-1]
    path = commit(store, 5).path
    store.remove(last)
    assert find_faults(store) == ()
    assert unreferenced(store, LogitTable(store).commits()) == (path,)
    assert refill() == 1
    assert unreferenced(store, LogitTable(store).commits()) == ()
    assert shards(store) == filled


def test_repair_of_a_sound_table_changes_nothing(
    store: LocalStore, filled: dict[str, bytes]
) -> None:
    before = list(store.keys("log"))
    with hold(store) as lease:
        assert repair(store, lease) == ()
    assert list(store.keys("log")) == before
    assert shards(store) == filled


ORPHAN = "0123456789abcdef.arrow"


def test_leftovers_and_unreferenced_files_are_collected_and_nothing_else(
    store: LocalStore, filled: dict[str, bytes], members: tuple[Member, Member]
) -> None:
    folder = f"columns/{members[0].column}"
    (store.root / folder / ".part-0123").write_bytes(b"half")
    (store.root / folder / "Thumbs.db").write_bytes(b"of another program")
    store.create(f"{folder}/{ORPHAN}", b"of a crash")
    waste = {f"{folder}/.part-0123", f"{folder}/{ORPHAN}"}
    with hold(store) as lease:
        assert set(collect(store, lease).young) == waste
        collection = collect(store, lease, young_s=0.0)
    assert (set(collection.removed), collection.young) == (waste, ())
    store.remove(f"{folder}/Thumbs.db")
    assert shards(store) == filled
    entries = list(store.keys("log"))
    with hold(store) as lease:
        assert collect(store, lease) == Collection((), ())
    assert list(store.keys("log")) == entries


def test_age_of_a_file_is_told_by_the_clock_of_the_store(
    store: LocalStore, filled: dict[str, bytes], members: tuple[Member, Member]
) -> None:
    path = f"columns/{members[0].column}/{ORPHAN}"
    store.create(path, b"of a crash")
    hour_ahead = AheadStore(store.root)
    with hold(store) as lease:
        assert collect(hour_ahead, lease).young == (path,)
        os.utime(store.root / path, (time.time() - 3600, time.time() - 3600))
        assert collect(store, lease).removed == (path,)


@dataclass(frozen=True)
class AheadStore(LocalStore):
    """A store whose clock is an hour ahead of that of this machine."""

    def modified_at(self, key: str) -> float:
        return super().modified_at(key) + 3600


def test_collection_shuts_out_a_writer_that_was_paused_before_its_entry(
    store: LocalStore,
    filled: dict[str, bytes],
    members: tuple[Member, Member],
    make_block: MakeBlock,
) -> None:
    paused = LogitTable(store)
    store.create(f"columns/{members[0].column}/{ORPHAN}", b"of a crash")
    with hold(store) as lease:
        collect(store, lease, young_s=0.0)
    with pytest.raises(TableBusyError, match="`ensemble table gc`"):
        paused.commit(members[0], make_block(members[0], ["new"]))
    assert LogitTable(store).missing(members[0].column, [*IDS, "new"]) == ("new",)


@dataclass(frozen=True)
class InterruptedStore(LocalStore):
    """A store that does something else before one removal."""

    before_removal: Callable[[], object]

    def remove(self, key: str) -> None:
        self.before_removal()
        super().remove(key)


def test_file_that_another_run_took_up_meanwhile_is_put_back(
    store: LocalStore,
    filled: dict[str, bytes],
    members: tuple[Member, Member],
    refill: Callable[[], int],
) -> None:
    last = list(store.keys("log"))[-1]
    store.remove(last)

    def take_over() -> None:
        fence.fence(store, 9, "the table was taken over")
        refill()

    with (
        pytest.raises(TableBusyError, match=r"another run took over the table .*No file that it"),
        hold(store) as lease,
    ):
        collect(InterruptedStore(store.root, take_over), lease, young_s=0.0)
    assert shards(store) == filled
    assert LogitTable(store).missing(members[1].column, IDS) == ()
    assert find_faults(store) == ()


@dataclass(frozen=True)
class BlindStore(LocalStore):
    """A store whose listings lack every entry of the log."""

    def keys(self, folder: str) -> Iterator[str]:
        if folder != "log":
            yield from super().keys(folder)


def test_neither_repair_nor_gc_removes_a_shard_of_a_log_that_no_listing_shows(
    store: LocalStore, filled: dict[str, bytes], members: tuple[Member, Member]
) -> None:
    orphan = f"columns/{members[0].column}/{ORPHAN}"
    store.create(orphan, b"of a crash")
    blind = BlindStore(store.root)
    assert find_faults(blind) == ()
    with hold(store) as lease:
        assert repair(blind, lease) == ()
        assert collect(blind, lease, young_s=0.0).removed == (orphan,)
    assert shards(store) == filled
    assert find_faults(store) == ()


def test_log_that_cannot_be_read_is_no_damage(store: LocalStore, filled: dict[str, bytes]) -> None:
    with hold(store) as lease:
        log = store.root / "log"
        log.rename(store.root / "elsewhere")
        log.symlink_to(log)
        for verb in (repair, collect):
            with pytest.raises(TableError, match=r"cannot list .*/log: .* Nothing was changed"):
                verb(store, lease)
        log.unlink()
        (store.root / "elsewhere").rename(log)
    assert shards(store) == filled
    assert find_faults(store) == ()


def test_entry_that_comes_back_while_it_is_repaired_is_left(
    store: LocalStore, filled: dict[str, bytes]
) -> None:
    entries = {name: store.read(name) for name in store.keys("log")}

    @dataclass(frozen=True)
    class UnsteadyStore(LocalStore):
        late: list[str] = field(default_factory=lambda: [log_names.key(2)] * 2)

        def read(self, key: str) -> bytes:
            if key in self.late:
                self.late.remove(key)
                raise DamagedTableError("cannot read it: there is no such object.")
            return super().read(key)

    with (
        pytest.raises(TableError, match=r"00000002\.json was damaged or missing a moment ago"),
        hold(store) as lease,
    ):
        repair(UnsteadyStore(store.root), lease)
    assert {name: store.read(name) for name in entries} == entries
    assert shards(store) == filled


def test_file_outside_the_table_is_never_removed(
    store: LocalStore, filled: dict[str, bytes], tmp_path: Path
) -> None:
    outside = tmp_path / "photo.jpg"
    outside.write_bytes(b"of the user")
    for path in (str(outside), "../photo.jpg"):
        value = json.loads(store.read(log_names.key(1))) | {"path": path}
        value.pop("sha256_of_entry")
        content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
        store.replace(log_names.key(1), content + log_entry._ending(content))
        (fault,) = find_faults(store)
        assert fault.path == log_names.key(1)
        with hold(store) as lease:
            assert repair(store, lease) == (fault,)
        assert outside.read_bytes() == b"of the user"
    assert shards(store) == filled


def test_overview_says_who_computed_what_and_how_much(
    store: LocalStore, filled: dict[str, bytes], members: tuple[Member, Member]
) -> None:
    first, second = summarise(LogitTable(store).commits())
    assert (first.member, first.column) == ("a", members[0].column)
    assert (second.member, second.shards, second.rows) == ("b", 3, 12)
    assert first.size_bytes + second.size_bytes == sum(map(len, filled.values()))
    assert len(first.hosts) == 1
    assert first.first <= first.last


def test_column_that_kinds_of_device_computed_together_is_mixed_unless_the_kind_is_unknown(
    tmp_path: Path, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    table = LogitTable(tmp_path / "mixed")
    mixed, other = members
    for start, kind in ((0, "cpu"), (4, "NVIDIA L4"), (6, "cpu")):
        block = make_block(mixed, IDS[start : start + 4])
        table.commit(mixed, replace(block, device_kind=kind))
    table.commit(other, replace(make_block(other, IDS[:4]), device_kind="cpu"))
    table.commit(other, make_block(other, IDS[4:8]))
    first, second = summarise(LogitTable(tmp_path / "mixed").commits())
    assert first.rows_by_device_kind == {"NVIDIA L4": 4, "cpu": 6}
    assert first.is_mixed
    assert second.rows_by_device_kind == {"cpu": 4, "unknown": 4}
    assert not second.is_mixed


def test_kinds_of_device_are_compared_on_the_rows_that_both_computed(
    tmp_path: Path, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    member, other = members
    on_cpu, on_gpu = LogitTable(tmp_path / "cpu"), LogitTable(tmp_path / "gpu")
    block = make_block(member, IDS)
    on_cpu.commit(member, replace(block, device_kind="cpu"))
    logs = block.log_probabilities.copy()
    logs[3] = np.roll(logs[3], 1)
    on_gpu.commit(
        member,
        replace(block, log_probabilities=logs, device_kind="NVIDIA L4").only(set(IDS[2:])),
    )
    on_gpu.commit(other, replace(make_block(other, IDS), device_kind="cpu"))
    (difference,) = compare_kinds(on_cpu, on_gpu)
    assert (difference.member, difference.kinds) == (member.name, ("cpu", "NVIDIA L4"))
    assert (difference.rows, difference.answers) == (len(IDS) - 2, 1)
    expected = np.abs(np.exp(logs[3]) - np.exp(block.log_probabilities[3])).max()
    assert difference.largest == pytest.approx(float(expected))
    assert compare_kinds(on_cpu, on_cpu) == ()


def test_difference_of_two_tables_names_the_keys_that_changed(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock
) -> None:
    def table(name: str, *members: Member) -> LogitTable:
        made = LogitTable(tmp_path / name)
        for member in members:
            made.commit(member, make_block(member, IDS))
        return made

    a, b, c = (make_member(name) for name in "abc")
    first = table("first", a, b, c, make_member("gone"))
    renamed = make_member("better", weights_sha256=b.weights_sha256)
    changed = make_member("c", weights_sha256="0" * 64)
    second = table("second", a, renamed, changed, make_member("new"))
    found = compare(summarise(first.commits()), summarise(second.commits()))
    assert [(each.member, each.state) for each in found] == [
        ("a", "same"),
        ("b", "renamed"),
        ("c", "changed"),
        ("gone", "only in A"),
        ("new", "only in B"),
    ]
    assert found[1].reasons == ("called 'better' in B",)
    (reason,) = found[2].reasons
    assert reason.startswith("weights_sha256: '")
    assert reason.endswith("-> '" + "0" * 36 + "...")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_exported_rows_are_those_of_the_table(
    store: LocalStore,
    filled: dict[str, bytes],
    members: tuple[Member, Member],
    make_block: MakeBlock,
    tmp_path: Path,
    kind: str,
) -> None:
    path = tmp_path / f"rows.{kind}"
    assert export_table(LogitTable(store), path, kind) == 24
    expected = make_block(members[0], IDS).log_probabilities
    if kind == "npz":
        found = np.load(path)[f"a.{members[0].column}.log_probabilities"]
    else:
        rows = pq.read_table(path).to_pylist()
        found = np.array([r["log_probabilities"] for r in rows if r["member"] == "a"], np.float32)
    assert np.array_equal(found, expected)


def test_export_that_cannot_be_written_or_is_empty_is_refused(
    store: LocalStore, filled: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=r"cannot write .*: No such file"):
        export_table(LogitTable(store), tmp_path / "none" / "x.npz", "npz")
    with pytest.raises(TableError, match="has no rows to export"):
        export_table(LogitTable(tmp_path / "empty"), tmp_path / "x.parquet", "parquet")
