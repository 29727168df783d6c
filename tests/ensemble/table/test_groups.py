"""One log entry counts many shards: what is in the table is what many entries would have counted."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DamagedTableError, TableBusyError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table import fence, log_entry, log_names
from ensemble.table.block import LogitBlock
from ensemble.table.lease import hold
from ensemble.table.log_entry import Commit, Entry, Group
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, find_faults, repair

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]
OLD = Path(__file__).parent / "of_version_4"
OLD_COLUMNS = ("1f3ab1cc501ad8f3", "938fec83e2902a69")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "table")


@pytest.fixture
def members(make_member: MakeMember) -> tuple[Member, Member]:
    return make_member("a"), make_member("b")


def count(store: LocalStore, blocks: Sequence[tuple[Member, LogitBlock]]) -> LogitTable:
    table = LogitTable(store)
    writer = table.writer(S3Config())
    table.count([(member, writer.write(member, block)) for member, block in blocks])
    return table


def paths(table: LogitTable) -> list[str]:
    return [commit.path for commit in table.commits()]


def entries(store: LocalStore) -> list[Entry]:
    numbers = log_names.entry_numbers(store.keys("log"))
    return [log_entry.decode(n, store.read(log_names.key(n))) for n in numbers]


@pytest.fixture
def grouped(store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock) -> LocalStore:
    """A table with one entry that counts three blocks of each of two members."""
    starts = (0, 4, 8)
    count(store, [(m, make_block(m, IDS[s : s + 4])) for s in starts for m in members])
    return store


def test_one_entry_counts_all_blocks_of_a_group(
    grouped: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    first, group = entries(grouped)
    assert isinstance(first, log_entry.Fence)
    assert isinstance(group, Group)
    table = LogitTable(grouped)
    assert sorted(paths(table)) == sorted(commit.path for commit in group.commits)
    for member in members:
        expected = make_block(member, IDS).log_probabilities
        assert table.read(member.column, IDS).tobytes() == expected.tobytes()


def test_lone_block_is_counted_by_an_entry_that_programs_before_groups_read(
    store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    count(store, [(members[0], make_block(members[0], IDS))])
    assert [type(entry).__name__ for entry in entries(store)] == ["Fence", "Commit"]
    assert {entry.version for entry in entries(store)} == {4}


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(s, marks=pytest.mark.nightly) for s in range(3, 50))]
)
def test_groups_hold_what_lone_entries_would(
    tmp_path: Path, members: tuple[Member, Member], make_block: MakeBlock, seed: int
) -> None:
    rng = random.Random(seed)
    blocks = []
    for _ in range(rng.randint(1, 12)):
        member, start = rng.choice(members), rng.randrange(len(IDS))
        ids = IDS[start : start + rng.randint(1, 5)]
        bad = ids[:1] if rng.random() < 0.3 else []
        blocks.append((member, make_block(member, ids[len(bad) :], bad)))
    alone, together = LocalStore(tmp_path / "alone"), LocalStore(tmp_path / "together")
    for block in blocks:
        count(alone, [block])
    while blocks:
        size = rng.randint(1, 4)
        count(together, blocks[:size])
        blocks = blocks[size:]
    one, other = LogitTable(alone), LogitTable(together)
    for member in members:
        missing = one.missing(member.column, IDS)
        assert other.missing(member.column, IDS) == missing
        bad = {image.image_id for image in one.bad_images([member.column])}
        ids = [i for i in IDS if i not in bad and i not in missing]
        if ids:
            assert np.array_equal(one.read(member.column, ids), other.read(member.column, ids))
    assert paths(one) == paths(other)
    assert one.bad_images(m.column for m in members) == other.bad_images(m.column for m in members)
    assert find_faults(together) == ()


def test_block_that_comes_twice_in_a_group_counts_once(
    store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    block = members[0], make_block(members[0], IDS)
    assert len(count(store, [block, block, block]).commits()) == 1


def test_shards_without_a_row_are_one_file_and_keep_all_their_reasons(
    store: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    count(store, [(members[0], make_block(members[0], [], bad=[image_id])) for image_id in IDS])
    table = LogitTable(store)
    assert [bad.image_id for bad in table.bad_images([members[0].column])] == IDS
    assert len(set(paths(table))) == 1


def test_group_without_a_block_writes_no_entry(store: LocalStore) -> None:
    count(store, [])
    assert len(entries(store)) == 1


def test_repair_takes_one_shard_out_of_a_group_and_leaves_the_others(
    grouped: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    commits = LogitTable(grouped).commits()
    grouped.replace(commits[1].path, b"damaged")
    with hold(grouped) as lease:
        (fault,) = repair(grouped, lease)
    assert (fault.path, fault.images) == (commits[1].path, 4)
    assert find_faults(grouped) == ()
    table = LogitTable(grouped)
    assert set(paths(table)) == {commit.path for commit in commits} - {commits[1].path}
    with hold(grouped) as lease:
        assert collect(grouped, lease, young_s=0.0).removed == (commits[1].path,)
    table = LogitTable(grouped)
    for member in members:
        table.commit(member, make_block(member, IDS))
        expected = make_block(member, IDS).log_probabilities
        assert LogitTable(grouped).read(member.column, IDS).tobytes() == expected.tobytes()


def test_repair_takes_out_every_shard_of_a_group_in_turn(grouped: LocalStore) -> None:
    for left in reversed(range(6)):
        commit = LogitTable(grouped).commits()[0]
        grouped.remove(commit.path)
        with hold(grouped) as lease:
            assert [fault.path for fault in repair(grouped, lease)] == [commit.path]
        assert len(LogitTable(grouped).commits()) == left


def test_group_of_a_driver_that_was_shut_out_does_not_count(
    grouped: LocalStore, members: tuple[Member, Member], make_block: MakeBlock
) -> None:
    table = LogitTable(grouped)
    writer = table.writer(S3Config())
    receipts = [(m, writer.write(m, make_block(m, ["new"]))) for m in members]
    fence.fence(grouped, 7, "it was tried")
    with pytest.raises(TableBusyError, match="it was tried"):
        table.count(receipts)
    commits = tuple(receipt.commits[0].model_copy(update={"writer": 6}) for _, receipt in receipts)
    late = Group(writer=6, commits=commits)
    grouped.create(log_names.key(3), log_entry.encode(3, late))
    assert LogitTable(grouped).missing(members[0].column, ["new"]) == ("new",)


@pytest.mark.parametrize(
    "changes",
    [
        lambda group: {"commits": ()},
        lambda group: {"commits": (*group.commits, group.commits[0])},
        lambda group: {"writer": 5},
    ],
    ids=["no commit", "a file twice", "another writer"],
)
def test_group_that_cannot_be_is_damaged(
    grouped: LocalStore, changes: Callable[[Group], dict[str, object]]
) -> None:
    group = entries(grouped)[1]
    assert isinstance(group, Group)
    forged = group.model_copy(update=changes(group))
    grouped.replace(log_names.key(1), log_entry.encode(1, forged))
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: it is not an entry"):
        LogitTable(grouped)


@pytest.mark.parametrize("images", [None, True, -1, 2, 0.0, "0", [0], 10**30])
def test_group_that_names_no_image_set_is_damaged(grouped: LocalStore, images: object) -> None:
    value = json.loads(grouped.read(log_names.key(1)))
    del value["sha256_of_entry"]
    value["commits"][1]["images"] = images
    value["image_sets"] = value["image_sets"][:2]
    content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
    grouped.replace(log_names.key(1), content + log_entry._ending(content))
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: a commit names"):
        LogitTable(grouped)


def test_small_group_of_a_stranger_fills_no_memory(grouped: LocalStore) -> None:
    value = json.loads(grouped.read(log_names.key(1)))
    del value["sha256_of_entry"]
    value["image_sets"] = [["x"] * (log_entry.MOST_GROUP_ROWS // 100)]
    value["commits"] = [value["commits"][0]] * 101
    for number, commit in enumerate(value["commits"]):
        value["commits"][number] = commit | {"images": 0}
    content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
    grouped.replace(log_names.key(1), content + log_entry._ending(content))
    with pytest.raises(DamagedTableError, match="its commits have over 1048576 rows"):
        LogitTable(grouped)


def test_ids_of_images_stand_once_in_a_group(grouped: LocalStore) -> None:
    text = grouped.read(log_names.key(1)).decode()
    assert [text.count(image_id) for image_id in IDS] == [1] * len(IDS)


def test_table_of_version_4_is_read_and_continued(
    store: LocalStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    """Its entries are four blocks, the second of each member with a bad image, a fence and a removal."""
    shutil.copytree(OLD, store.root)
    table = LogitTable(store)
    assert table.missing(OLD_COLUMNS[0], IDS[:8]) == tuple(IDS[:4])
    assert table.missing(OLD_COLUMNS[1], IDS[:8]) == ()
    assert [bad.image_id for bad in table.bad_images(OLD_COLUMNS)] == [IDS[7]]
    rows = [[-(2 + image + c) / 8 for c in range(3)] for image in range(7)]
    assert table.read(OLD_COLUMNS[1], IDS[:7]).tolist() == rows
    assert find_faults(store) == ()
    before = table.commits()
    new = [make_member(name) for name in "cd"]
    count(store, [(member, make_block(member, IDS)) for member in new])
    after = LogitTable(store)
    assert after.commits()[: len(before)] == before
    assert all(not after.missing(member.column, IDS) for member in new)
    assert all(isinstance(commit, Commit) for commit in after.commits())
