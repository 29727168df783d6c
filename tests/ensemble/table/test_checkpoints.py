"""Checkpoints of the log: a table that is opened from them is the one that its entries make."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pytest

from ensemble.errors import DamagedTableError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.store import Store
from ensemble.table import checkpoint, fence, log_entry
from ensemble.table.block import LogitBlock
from ensemble.table.checkpoint_writer import encode_from_entries, write_checkpoints
from ensemble.table.commit_log import CommitLog
from ensemble.table.lease import hold
from ensemble.table.log_entry import Commit, Entry, Fence, Group, Removal, ShardRemoval
from ensemble.table.log_names import CHECKPOINT_ENTRIES, checkpoint_key, key
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, find_faults, repair

from .mutations import mutate
from .pausing_store import PausingStore

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

HERE = Path(__file__).parent
IDS = [f"image-{i:02d}" for i in range(12)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


def write_entries(store: LocalStore, entries: Sequence[Entry], first: int = 0) -> None:
    (store.root / "log").mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(entries, first):
        (store.root / key(number)).write_bytes(log_entry.encode(number, entry))


def fences(count: int, writer: int = 0) -> list[Entry]:
    return [Fence(writer=writer, reason="filled") for _ in range(count)]


def random_commit(rng: random.Random, writer: int, path: str) -> Commit:
    ids = tuple(f"{rng.choice('aé')}{i}" for i in rng.sample(range(40), rng.randrange(4)))
    classes, start = rng.randrange(1, 4), rng.randrange(200)
    size = start + 4 * classes * len(ids) + rng.randrange(3) * log_entry.PIECE_BYTES
    pieces = -(-size // log_entry.PIECE_BYTES)
    bad = [f"bad-{rng.randrange(9)}"] if rng.random() < 0.2 else []
    member = path.split("/")[1][0]
    return Commit(
        writer=writer,
        column=path.split("/")[1],
        name=f"member ü {member}",
        identity={"member": member, "views": [1.5, None, {"deep": [True]}]},
        path=path,
        sha256=f"{rng.getrandbits(256):064x}",
        size_bytes=size,
        dtype=rng.choice(["float32", "float16"]),
        image_ids=ids,
        classes=classes,
        values_start=start,
        pieces=tuple(f"{rng.getrandbits(256):064x}" for _ in range(pieces)),
        bad=tuple(log_entry.BadImageEntry(image_id=i, reason="it is no image") for i in bad),
        forward_passes=rng.randrange(2**40),
        seconds=rng.random(),
        flops_per_image=rng.choice([None, 7]),
        gpu_bytes=rng.choice([None, 0, 2**35]),
        device_kind=rng.choice([None, "cpu", "NVIDIA é"]),
        host=rng.choice(["here", "there"]),
    )


def random_log(rng: random.Random, size: int) -> list[Entry]:
    """Entries as two drivers, repairs and takeovers write them, some of which are shut out or undone."""
    entries: list[Entry] = []
    writer = 0
    for number in range(size):
        draw = rng.random()
        own = max(0, writer - (rng.random() < 0.1))
        earlier = rng.randrange(number + 1)
        target = entries[earlier] if earlier < number else None
        if draw < 0.05:
            writer += 1
            entries.append(Fence(writer=writer, reason="it was tried"))
        elif draw < 0.15:
            entries.append(Removal(writer=own, entry=earlier, reason="damaged"))
        elif draw < 0.25 and isinstance(target, Group):
            path = rng.choice(target.commits).path
            entries.append(ShardRemoval(writer=own, entry=earlier, path=path, reason="damaged"))
        else:
            paths = [
                f"columns/{rng.randrange(3):016x}/{rng.getrandbits(64):016x}.arrow" for _ in "123"
            ]
            commits = tuple(random_commit(rng, own, path) for path in paths[: rng.randrange(1, 4)])
            is_group = len(commits) > 1 or rng.random() < 0.2
            entries.append(Group(writer=own, commits=commits) if is_group else commits[0])
    return entries


@pytest.mark.parametrize(
    ("seed", "full"), [(0, 1), *(pytest.param(s, 2, marks=pytest.mark.nightly) for s in range(60))]
)
def test_state_from_checkpoints_is_that_of_the_entries(
    store: LocalStore, seed: int, full: int
) -> None:
    rng = random.Random(seed)
    entries = random_log(rng, full * CHECKPOINT_ENTRIES + rng.randrange(100))
    firsts = tuple(range(0, full * CHECKPOINT_ENTRIES, CHECKPOINT_ENTRIES))
    write_entries(store, entries)
    expected = list(CommitLog(store).read())
    assert write_checkpoints(store, len(entries)) == firsts
    for first in firsts:
        data = store.read(checkpoint_key(first))
        assert checkpoint.decode(first, data) == tuple(entries[first : first + CHECKPOINT_ENTRIES])
        assert encode_from_entries(store, first) == data
    log = CommitLog(store)
    assert list(log.read()) == expected
    assert log.next_number == len(entries)
    # With one of them damaged or gone, or an entry that it has gone.
    path = store.root / checkpoint_key(rng.choice(firsts))
    sound = path.read_bytes()
    path.write_bytes(mutate(sound, rng))
    assert list(CommitLog(store).read()) == expected
    path.unlink()
    assert list(CommitLog(store).read()) == expected
    path.write_bytes(sound)
    (store.root / key(rng.randrange(full * CHECKPOINT_ENTRIES))).unlink()
    assert list(CommitLog(store).read()) == expected


@dataclass(frozen=True)
class CountingStore(LocalStore):
    """A folder that is read as S3 is, and counts what is read."""

    is_remote = True
    reads: Counter[str] = field(default_factory=Counter)

    def read(self, key: str) -> bytes:
        self.reads[key] += 1
        return super().read(key)


def test_opening_reads_the_checkpoints_and_the_tail(store: LocalStore) -> None:
    write_entries(store, fences(2 * CHECKPOINT_ENTRIES + 30))
    write_checkpoints(store, 2 * CHECKPOINT_ENTRIES + 30)
    counted = CountingStore(store.root)
    log = CommitLog(counted)
    list(log.read())
    assert log.next_number == 2 * CHECKPOINT_ENTRIES + 30
    # The last one finds that the log has ended.
    assert counted.reads.total() == 2 + 30 + 1


@pytest.mark.parametrize("version", [4, 5])
def test_table_of_an_earlier_version_is_continued_and_migrated_by_the_next_checkpoint(
    store: LocalStore, make_member: MakeMember, make_block: MakeBlock, version: int
) -> None:
    shutil.copytree(HERE / f"of_version_{version}", store.root)
    before = LogitTable(store)
    size = len(list(store.keys("log")))
    write_entries(store, fences(CHECKPOINT_ENTRIES - size - 1, writer=9), size)
    table, member = LogitTable(store), make_member("c")
    table.commit(member, make_block(member, IDS))
    table.finish()
    assert [name for name in store.keys("log") if name.endswith(".arrow")] == [checkpoint_key(0)]
    for number in range(CHECKPOINT_ENTRIES):
        store.remove(key(number))
    after = LogitTable(store)
    assert after.commits()[:-1] == before.commits()
    for column in {commit.column for commit in before.commits()}:
        there = [i for i in IDS if i not in before.missing(column, IDS)]
        rows = [i for i in there if i not in {b.image_id for b in before.bad_images([column])}]
        assert after.missing(column, IDS) == before.missing(column, IDS)
        assert after.read(column, rows).tobytes() == before.read(column, rows).tobytes()
    assert after.missing(member.column, IDS) == ()
    after.commit(member, make_block(member, ["new"]))
    assert LogitTable(store).missing(member.column, ["new"]) == ()


def test_stored_table_of_version_5_is_read(store: LocalStore) -> None:
    """Two groups of two members, the last with a bad image each; one shard of the first is removed."""
    shutil.copytree(HERE / "of_version_5", store.root)
    table, columns = LogitTable(store), ("1f3ab1cc501ad8f3", "0da2c252889e450f")
    assert table.missing(columns[0], IDS) == tuple(IDS[4:8])
    assert table.missing(columns[1], IDS) == ()
    assert [bad.image_id for bad in table.bad_images(columns)] == [IDS[11]]
    rows = [[-(2 + image + c) / 8 for c in range(3)] for image in range(11)]
    assert table.read(columns[1], IDS[:11]).tolist() == rows
    assert find_faults(store) == ()


@pytest.fixture
def long(store: LocalStore, make_member: MakeMember, make_block: MakeBlock) -> LocalStore:
    """A table with three blocks, the second of which is in the middle of a checkpoint."""
    member, table = make_member("a"), None
    for start, size in ((0, 0), (4, 100), (8, CHECKPOINT_ENTRIES - 1)):
        end = len(list(store.keys("log")))
        write_entries(store, fences(size - end), end)
        table = LogitTable(store)
        table.commit(member, make_block(member, IDS[start : start + 4]))
        table.finish()
    assert (store.root / checkpoint_key(0)).is_file()
    return store


def flip(store: LocalStore, name: str) -> None:
    data = bytearray(store.read(name))
    data[len(data) // 2] ^= 8
    store.replace(name, bytes(data))


@pytest.mark.parametrize("damage", ["flipped", "empty", "of another log"])
def test_damaged_checkpoint_is_told_and_written_anew_and_nothing_is_lost(
    long: LocalStore, damage: str
) -> None:
    name, commits = checkpoint_key(0), LogitTable(long).commits()
    sound = long.read(name)
    forged = checkpoint.encode(0, fences(CHECKPOINT_ENTRIES))
    assert forged is not None
    if damage == "flipped":
        flip(long, name)
    else:
        long.replace(name, b"" if damage == "empty" else forged)
    if damage != "of another log":
        assert LogitTable(long).commits() == commits
    (fault,) = find_faults(long)
    assert (fault.path, fault.images, fault.is_kept) == (name, 0, True)
    expected = "says otherwise than entry" if damage == "of another log" else "is damaged"
    assert expected in fault.reason
    # No shard goes because of what a checkpoint says.
    with hold(long) as lease:
        assert collect(long, lease, young_s=0.0).removed == ()
        assert repair(long, lease) == (fault,)
    assert long.read(name) == sound
    assert find_faults(long) == ()
    assert LogitTable(long).commits() == commits


@pytest.mark.parametrize(("number", "is_missing"), [(0, True), (100, False)])
def test_damaged_entry_is_put_back_from_its_checkpoint(
    long: LocalStore, number: int, is_missing: bool
) -> None:
    commits, sound = LogitTable(long).commits(), long.read(key(number))
    if is_missing:
        long.remove(key(number))
    else:
        flip(long, key(number))
    assert LogitTable(long).commits() == commits
    with pytest.raises(DamagedTableError), hold(long) as lease:
        collect(long, lease)
    with hold(long) as lease:
        (fault,) = repair(long, lease)
    assert (fault.path, fault.is_kept) == (key(number), True)
    assert long.read(key(number)) == sound
    assert find_faults(long) == ()


def test_checkpoint_of_a_paused_writer_does_not_bring_back_what_a_repair_took_out(
    long: LocalStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    stale = long.read(checkpoint_key(0))
    long.remove(checkpoint_key(0))
    flip(long, key(100))
    with hold(long) as lease:
        (fault,) = repair(long, lease)
    assert not fault.is_kept
    # As the writer would that read the entry before it was damaged.
    assert not long.create(checkpoint_key(0), stale)
    column = make_member("a").column
    assert LogitTable(long).missing(column, IDS) == tuple(IDS[4:8])
    assert find_faults(long) == ()


def test_log_whose_entries_are_gone_behind_a_checkpoint_is_followed(
    long: LocalStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    commits, member = LogitTable(long).commits(), make_member("a")
    for number in range(CHECKPOINT_ENTRIES):
        long.remove(key(number))
    assert fence.end_of_log(long)[0] == CHECKPOINT_ENTRIES
    LogitTable(long).commit(member, make_block(member, ["new"]))
    assert LogitTable(long).commits() == (*commits, LogitTable(long).commits()[-1])
    with hold(long) as lease:
        assert len(repair(long, lease)) == CHECKPOINT_ENTRIES
    assert find_faults(long) == ()
    assert LogitTable(long).commits()[:3] == commits


def test_entry_that_no_column_can_hold_gets_no_checkpoint(store: LocalStore) -> None:
    odd = random_commit(random.Random(0), 0, f"columns/{0:016x}/{0:016x}.arrow")
    odd = odd.model_copy(update={"forward_passes": 2**64})
    write_entries(store, [*fences(CHECKPOINT_ENTRIES - 1), odd])
    assert write_checkpoints(store, CHECKPOINT_ENTRIES) == ()
    assert [commit for _, commit in CommitLog(store).read()] == [odd]


@pytest.mark.parametrize("work", ["repair", pytest.param("entry", marks=pytest.mark.nightly)])
def test_checkpoint_writer_that_is_paused_anywhere_harms_nothing_when_it_goes_on(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, work: str
) -> None:
    """The second writer takes over and mends a damaged entry, or goes on past the boundary."""
    member = make_member("a")
    table = LogitTable(tmp_path / "sound")
    for start in (0, 4):
        table.commit(member, make_block(member, IDS[start : start + 4]))
    write_entries(LocalStore(tmp_path / "sound"), fences(CHECKPOINT_ENTRIES - 2), 2)
    for step in (1, 3, CHECKPOINT_ENTRIES + 1, CHECKPOINT_ENTRIES + 2):
        store = LocalStore(tmp_path / f"{step}")
        shutil.copytree(tmp_path / "sound", store.root)

        def meanwhile(store: LocalStore = store) -> None:
            if work == "repair":
                flip(store, key(1))
                with hold(store) as lease:
                    repair(store, lease)
            with hold(store) as lease:
                second = LogitTable(store, lease=lease)
                second.commit(member, make_block(member, IDS[4:]))
                second.finish()

        first: Store = PausingStore(store, step, meanwhile)
        write_checkpoints(first, CHECKPOINT_ENTRIES)
        entries = list(CommitLog(store).read(has_checkpoints=False))
        assert list(CommitLog(store).read()) == entries
        assert find_faults(store) == ()
        assert LogitTable(store).missing(member.column, IDS) == ()


def _write_checkpoints(root: Path, end: int) -> None:
    write_checkpoints(LocalStore(root), end)


@pytest.mark.nightly
def test_killed_checkpoint_writers_leave_a_log_that_the_next_one_finishes(
    store: LocalStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    rng, kills = random.Random(0), 0
    member = make_member("a")
    table = LogitTable(store)
    table.commit(member, make_block(member, IDS))
    end = 4 * CHECKPOINT_ENTRIES
    write_entries(store, fences(end - 1), 1)
    commits = LogitTable(store).commits()
    while kills < 40:
        for name in [name for name in store.keys("log") if name.endswith(".arrow")]:
            store.remove(name)
        writer = get_context("fork").Process(target=_write_checkpoints, args=(store.root, end))
        writer.start()
        time.sleep(rng.uniform(0, 0.2))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kills += writer.exitcode == -signal.SIGKILL
        assert LogitTable(store).commits() == commits
        assert find_faults(store) == ()
        with hold(store) as lease:
            left = collect(store, lease, young_s=0.0).removed
            assert all(".part-" in name for name in left)
        write_checkpoints(store, end)
        assert LogitTable(store).commits() == commits
    print(f"{kills} writers of checkpoints killed")
