import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import DamagedTableError, IncompleteTableError, TableBusyError, TableError
from ensemble.images.shard import BadImage
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.table import log_entry, shard_file
from ensemble.table.block import LogitBlock
from ensemble.table.lease import Lease, hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.shard_reader import MAX_SHARDS_HELD

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def member(make_member: MakeMember) -> Member:
    return make_member("a")


@pytest.fixture
def filled(root: Path, member: Member, make_block: MakeBlock) -> Path:
    """A table on disk: one column in three blocks of four images."""
    table = LogitTable(root)
    for start in (0, 4, 8):
        table.commit(member, make_block(member, IDS[start : start + 4]))
    return root


def entries(root: Path) -> list[Path]:
    return sorted((root / "log").iterdir())


def column_of(root: Path) -> str:
    return str(json.loads(entries(root)[0].read_text())["column"])


def shard_of(root: Path, number: int) -> Path:
    return root / json.loads(entries(root)[number].read_text())["path"]


def test_rows_come_back_in_any_order_and_as_often_as_asked_for(
    filled: Path, member: Member, make_block: MakeBlock
) -> None:
    table = LogitTable(filled)
    for seed in range(5):
        asked = np.random.default_rng(seed).choice(IDS, size=20)
        expected = make_block(member, asked.tolist()).log_probabilities
        assert table.read(member.column, asked).tobytes() == expected.tobytes()
    assert table.read(member.column, []).shape == (0, 3)


def test_table_from_disk_is_the_one_that_was_written(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    written = LogitTable(root)
    written.commit(member, make_block(member, IDS[:5], bad=IDS[5:7]))
    written.commit(member, make_block(member, IDS[7:]))
    reopened = LogitTable(root)
    present = [*IDS[:5], *IDS[7:]]
    assert reopened.commits() == written.commits()
    assert np.array_equal(
        reopened.read(member.column, present), written.read(member.column, present)
    )
    assert reopened.bad_images([member.column]) == written.bad_images([member.column])
    assert reopened.missing(member.column, [*IDS, "new"]) == ("new",)


def test_missing_are_the_images_without_a_row_in_the_order_asked_for(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table = LogitTable(root)
    assert table.missing(member.column, ["b", "a"]) == ("b", "a")
    table.commit(member, make_block(member, ["a", "c"], bad=["d"]))
    assert table.missing(member.column, ["e", "d", "c", "b", "a"]) == ("e", "b")
    assert table.missing(member.column, np.array(["e", "a"])) == ("e",)
    assert table.missing("0" * 16, ["a"]) == ("a",)


@settings(deadline=None, max_examples=25)
@given(
    blocks=st.lists(
        st.tuples(st.lists(st.sampled_from(IDS), unique=True), st.sets(st.sampled_from(IDS))),
        max_size=6,
    )
)
def test_no_row_is_committed_twice_however_images_are_cut_into_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    make_member: MakeMember,
    make_block: MakeBlock,
    blocks: list[tuple[list[str], set[str]]],
) -> None:
    member = make_member("a")
    root = tmp_path_factory.mktemp("table")
    table = LogitTable(root)
    unreadable = set(IDS[::5])
    given_ids: set[str] = set()
    for good, bad in blocks:
        rows = [image_id for image_id in good if image_id not in unreadable]
        table.commit(member, make_block(member, rows, bad=sorted(bad & unreadable)))
        given_ids |= {*rows, *(bad & unreadable)}
    commits = LogitTable(root).commits()
    assert sum(commit.rows for commit in commits) == len(given_ids - unreadable)
    assert sum(len(commit.bad) for commit in commits) == len(given_ids & unreadable)
    assert set(IDS) - set(table.missing(member.column, IDS)) == given_ids
    if commits:
        present = sorted(given_ids - unreadable)
        expected = make_block(member, present).log_probabilities
        assert np.array_equal(LogitTable(root).read(member.column, present), expected)


def test_block_that_is_there_already_changes_nothing(
    filled: Path, member: Member, make_block: MakeBlock
) -> None:
    before = sorted(path.name for path in filled.rglob("*"))
    LogitTable(filled).commit(member, make_block(member, IDS[2:9]))
    assert sorted(path.name for path in filled.rglob("*")) == before


def test_columns_are_apart_and_a_renamed_member_finds_its_own(
    filled: Path, member: Member, make_member: MakeMember, make_block: MakeBlock
) -> None:
    table = LogitTable(filled)
    other = make_member("b")
    table.commit(other, make_block(other, IDS))
    renamed = replace(member, name="better name")
    assert not table.missing(renamed.column, IDS)
    assert not np.array_equal(table.read(renamed.column, IDS), table.read(other.column, IDS))
    assert table.missing(make_member("c").column, IDS) == tuple(IDS)


def test_commit_says_whose_rows_they_are_and_what_they_cost(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table = LogitTable(root)
    table.commit(member, make_block(member, ["a", "b"], bad=["c"]))
    (commit,) = table.commits()
    assert (commit.column, commit.name, commit.rows) == (member.column, "a", 2)
    assert commit.identity == json.loads(json.dumps(member.identity))
    assert (commit.forward_passes, commit.seconds) == (2, 0.5)
    assert [(bad.image_id, bad.reason) for bad in commit.bad] == [("c", "torn in two")]


def test_bad_images_of_some_columns_are_listed_once_by_id(
    root: Path, make_member: MakeMember, make_block: MakeBlock
) -> None:
    table = LogitTable(root)
    first, second = make_member("a"), make_member("b")
    table.commit(first, make_block(first, ["a"], bad=["z", "c"]))
    table.commit(second, make_block(second, ["a"], bad=["c", "b"]))
    columns = [first.column, second.column, "0" * 16]
    reason = "torn in two"
    assert table.bad_images(columns) == tuple(BadImage(i, reason) for i in ("b", "c", "z"))
    assert table.bad_images([first.column]) == tuple(BadImage(i, reason) for i in ("c", "z"))


@pytest.mark.parametrize(
    "reason",
    [
        "PermissionError: [Errno 13] Permission denied: '/images/b.png'",
        "OSError: [Errno 116] Stale file handle: '/images/b.png'",
        "s3://bucket/images/b.png: no such object",
    ],
)
def test_file_that_could_not_be_read_is_missing_and_not_bad(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, reason: str
) -> None:
    member = make_member()
    block = replace(make_block(member, ["a"]), bad=(BadImage("b", reason), BadImage("c", "torn")))
    LogitTable(tmp_path).commit(member, block)
    table = LogitTable(tmp_path)
    assert table.missing(member.column, ["a", "b", "c"]) == ("b",)
    assert [bad.image_id for bad in table.bad_images([member.column])] == ["c"]
    table.commit(member, make_block(member, ["a", "b"], bad=["c"]))
    assert LogitTable(tmp_path).missing(member.column, ["a", "b", "c"]) == ()


def test_block_of_bad_images_only_is_kept_too(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table = LogitTable(root)
    table.commit(member, make_block(member, [], bad=["a"]))
    table.commit(member, make_block(member, [], bad=["b"]))
    table.commit(member, make_block(member, ["c"]))
    reopened = LogitTable(root)
    assert not reopened.missing(member.column, ["a", "b", "c"])
    assert reopened.read(member.column, ["c"]).shape == (1, 3)


def test_many_shards_are_read_though_few_are_held(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    image_ids = [f"image-{i:03d}" for i in range(MAX_SHARDS_HELD + 10)]
    table = LogitTable(root)
    for image_id in image_ids:
        table.commit(member, make_block(member, [image_id]))
    for _ in range(2):
        expected = make_block(member, image_ids).log_probabilities
        assert np.array_equal(table.read(member.column, image_ids), expected)


def test_image_without_a_row_is_named(filled: Path, member: Member) -> None:
    with pytest.raises(
        IncompleteTableError,
        match=rf"column {member.column} has no row of image 'new'; .* 2 images\. Run again",
    ):
        LogitTable(filled).read(member.column, ["image-00", "new"])


def test_column_that_is_not_there_is_named(filled: Path) -> None:
    with pytest.raises(IncompleteTableError, match=r"table .*table has no column 0{16}"):
        LogitTable(filled).read("0" * 16, IDS)


def test_second_writer_is_refused_and_harms_nothing(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    first, second = LogitTable(root), LogitTable(root)
    first.commit(member, make_block(member, IDS[:4]))
    with pytest.raises(
        TableError, match=r"another run is writing the table .*holds entry 0 of the commit log"
    ):
        second.commit(member, make_block(member, IDS[4:]))
    first.commit(member, make_block(member, IDS[4:8]))
    assert LogitTable(root).missing(member.column, IDS) == tuple(IDS[8:])


def test_table_goes_on_where_an_earlier_one_stopped(
    filled: Path, member: Member, make_block: MakeBlock
) -> None:
    LogitTable(filled).commit(member, make_block(member, ["new"]))
    assert LogitTable(filled).missing(member.column, [*IDS, "new"]) == ()
    assert len(entries(filled)) == 4


def test_file_left_over_by_a_crash_is_ignored(
    filled: Path, member: Member, make_block: MakeBlock
) -> None:
    for folder in (filled / "log", shard_of(filled, 0).parent):
        (folder / ".part-0123456789abcdef").write_bytes(b"half an obj")
    table = LogitTable(filled)
    table.commit(member, make_block(member, ["new"]))
    assert table.missing(member.column, [*IDS, "new"]) == ()


def test_shard_that_no_entry_names_does_not_count_and_can_be_committed(
    filled: Path, member: Member, make_block: MakeBlock
) -> None:
    entries(filled)[2].unlink()  # as if the run had died between the two writes
    table = LogitTable(filled)
    assert table.missing(member.column, IDS) == tuple(IDS[8:])
    table.commit(member, make_block(member, IDS[8:]))
    assert LogitTable(filled).missing(member.column, IDS) == ()


@pytest.mark.parametrize("position", [0, 0.3, 0.6, 0.999])
def test_flipped_bit_is_found_and_the_file_named(filled: Path, position: float) -> None:
    shard = shard_of(filled, 1)
    content = bytearray(shard.read_bytes())
    content[int(position * len(content))] ^= 1
    shard.write_bytes(content)
    with pytest.raises(TableError, match=rf"the shard .*{shard.name} \(a\) is damaged: its sha256"):
        LogitTable(filled).read(column_of(filled), IDS)


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_truncated_shard_is_found_and_named(filled: Path, kept: int) -> None:
    shard = shard_of(filled, 1)
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(TableError, match=rf"{shard.name} \(a\) is damaged.*table repair` drops it"):
        LogitTable(filled).read(column_of(filled), IDS)


def test_missing_shard_is_named(filled: Path) -> None:
    shard = shard_of(filled, 1)
    shard.unlink()
    with pytest.raises(DamagedTableError, match=rf"cannot read .*{shard.name}: No such file"):
        LogitTable(filled).read(column_of(filled), IDS)


def test_shard_damaged_after_the_table_was_opened_is_found_when_read(
    filled: Path, member: Member
) -> None:
    table = LogitTable(filled)
    shard = shard_of(filled, 0)
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(TableError, match=f"{shard.name}.*is damaged"):
        table.read(member.column, IDS)


def test_shard_of_another_column_is_refused(
    filled: Path, member: Member, make_member: MakeMember, make_block: MakeBlock
) -> None:
    other = make_member("b")
    LogitTable(filled).commit(other, make_block(other, IDS))
    mine, theirs = entries(filled)[0], entries(filled)[3]
    entry = log_entry.decode(3, theirs.read_bytes())
    mine.write_bytes(log_entry.encode(0, entry.model_copy(update={"column": member.column})))
    with pytest.raises(
        TableError, match=f"belongs to column {other.column}; expected column {member.column}"
    ):
        LogitTable(filled).read(member.column, IDS)


def test_shard_of_other_images_is_refused(filled: Path, member: Member) -> None:
    entry = log_entry.decode(0, entries(filled)[0].read_bytes())
    assert isinstance(entry, log_entry.Commit)
    swapped = entry.model_copy(update={"image_ids": entry.image_ids[::-1]})
    entries(filled)[0].write_bytes(log_entry.encode(0, swapped))
    with pytest.raises(DamagedTableError, match="its images are not those of its log entry"):
        LogitTable(filled).read(member.column, IDS)


def test_removed_log_entry_is_named(filled: Path) -> None:
    entries(filled)[1].unlink()
    with pytest.raises(
        TableError, match=r"log/00000002\.json where entry log/00000001\.json belongs; an entry was"
    ):
        LogitTable(filled)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}'])
def test_damaged_log_entry_is_named(filled: Path, content: str) -> None:
    entries(filled)[1].write_text(content)
    with pytest.raises(
        DamagedTableError,
        match=r"the log entry .*00000001\.json is damaged: .*table repair` puts it back",
    ):
        LogitTable(filled)


def test_entry_that_was_copied_over_another_is_refused(filled: Path) -> None:
    entries(filled)[1].write_bytes(entries(filled)[2].read_bytes())
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: it is the copy of"):
        LogitTable(filled)


def test_entry_that_is_whole_but_no_commit_is_refused(filled: Path) -> None:
    entry = log_entry.decode(1, entries(filled)[1].read_bytes())
    entries(filled)[1].write_bytes(log_entry.encode(1, entry.model_copy(update={"sha256": None})))
    with pytest.raises(DamagedTableError, match=r"00000001\.json is damaged: it is not an entry"):
        LogitTable(filled)


def test_every_flipped_bit_of_shards_and_log_is_found(filled: Path, member: Member) -> None:
    rng = np.random.default_rng(0)
    files = [*entries(filled), *(shard_of(filled, number) for number in range(3))]
    sizes = np.array([path.stat().st_size for path in files])
    for _ in range(1000):
        path = files[rng.choice(len(files), p=sizes / sizes.sum())]
        content = path.read_bytes()
        at, bit = rng.integers(len(content)), rng.integers(8)
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(bit)
        path.write_bytes(damaged)
        with pytest.raises(DamagedTableError, match=path.name):
            LogitTable(filled).read(member.column, IDS)
        path.write_bytes(content)
    assert LogitTable(filled).read(member.column, IDS).shape == (12, 3)


def test_lost_log_is_named_and_nothing_is_computed_in_its_place(filled: Path) -> None:
    shutil.rmtree(filled / "log")
    with pytest.raises(
        DamagedTableError, match=r"has 3 shard files and no commit log\. Put the log back, or let"
    ):
        LogitTable(filled)


def test_half_precision_is_stored_and_read_to_its_own_accuracy(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    block = make_block(member, IDS)
    block.log_probabilities[0, 0] = -1e6
    LogitTable(root, "float16").commit(member, block)
    table = LogitTable(root)
    (commit,) = table.commits()
    found = table.read(member.column, IDS)
    assert commit.dtype == "float16"
    assert found.dtype == np.float32
    assert found[0, 0] == np.finfo(np.float16).min
    expected = block.log_probabilities.ravel()[1:].astype(np.float16).astype(np.float32)
    assert np.array_equal(found.ravel()[1:], expected)


def test_large_block_becomes_several_files_and_counts_its_cost_once(
    root: Path, member: Member, make_block: MakeBlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_file, "MAX_BYTES", 60)
    LogitTable(root).commit(member, make_block(member, IDS, bad=["z"]))
    table = LogitTable(root)
    assert [commit.rows for commit in table.commits()] == [5, 5, 2]
    assert [len(commit.bad) for commit in table.commits()] == [1, 0, 0]
    assert sum(commit.forward_passes for commit in table.commits()) == 12
    assert table.read(member.column, IDS).shape == (12, 3)


@dataclass(frozen=True)
class CountingStore(LocalStore):
    """Notes how many bytes of shards are read."""

    reads: list[int] = field(default_factory=list)

    def read(self, key: str) -> bytes:
        data = super().read(key)
        self.reads.append(len(data) * key.endswith(".arrow"))
        return data

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        self.reads.append(stop - start)
        return super().read_range(key, start, stop)


def test_slice_reads_little_more_than_what_is_asked_for(
    root: Path, make_member: MakeMember, make_block: MakeBlock
) -> None:
    member = make_member("wide", num_classes=400)
    ids = [f"{i:05d}" for i in range(3000)]
    LogitTable(root).commit(member, make_block(member, ids))
    store = CountingStore(root)
    table = LogitTable(store)
    found = table.read(member.column, ids[700:1700])
    assert np.array_equal(found, make_block(member, ids[700:1700]).log_probabilities)
    assert sum(store.reads) <= 1.3 * found.nbytes
    # What is spread over the whole file is read as the whole file.
    assert np.array_equal(
        table.read(member.column, ids[::7]), make_block(member, ids[::7]).log_probabilities
    )


def test_flipped_bit_in_a_slice_is_found(
    root: Path, make_member: MakeMember, make_block: MakeBlock
) -> None:
    member = make_member("wide", num_classes=400)
    ids = [f"{i:05d}" for i in range(1000)]
    LogitTable(root).commit(member, make_block(member, ids))
    shard = shard_of(root, 0)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    table = LogitTable(root)
    assert table.read(member.column, ids[:100]).shape == (100, 400)
    with pytest.raises(DamagedTableError, match=rf"{shard.name} \(wide\) is damaged: pieces"):
        table.read(member.column, ids[400:600])


def test_driver_whose_lease_ran_out_is_fenced_and_its_last_block_is_kept(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    store = LocalStore(root)
    with hold(store) as lease:
        old = LogitTable(store, lease=Lease(store, 0, lease._holder, 60.0))
        new = LogitTable(store, lease=lease)
        old.commit(member, make_block(member, IDS[:4]))
        new.commit(member, make_block(member, IDS[4:8]))
        assert new.missing(member.column, IDS) == tuple(IDS[8:])
        with pytest.raises(TableBusyError, match="holds entry 1 of the commit log, written on"):
            old.commit(member, make_block(member, IDS[8:]))
    assert LogitTable(root).missing(member.column, IDS) == tuple(IDS[8:])


def test_damaged_bytes_under_the_name_of_a_shard_are_replaced(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    LogitTable(root).commit(member, make_block(member, IDS[:4]))
    shard = shard_of(root, 0)
    content = shard.read_bytes()
    entries(root)[0].unlink()
    shard.write_bytes(b"something else")
    LogitTable(root).commit(member, make_block(member, IDS[:4]))
    assert shard.read_bytes() == content
    assert LogitTable(root).missing(member.column, IDS[:4]) == ()


def test_shards_of_another_table_are_copied_once_under_the_name_of_today(
    filled: Path, member: Member, make_block: MakeBlock, tmp_path: Path
) -> None:
    source, renamed = LocalStore(filled), replace(member, name="renamed")
    table = LogitTable(tmp_path / "new")
    table.commit(member, make_block(member, IDS[:1]))
    used = [table.adopt(renamed, commit, source) for commit in LogitTable(source).commits()]
    assert used == [False, True, True], "the first has a row that is here already"
    assert {commit.name for commit in table.commits()} == {member.name, "renamed"}
    here = LocalStore(tmp_path / "new")
    copied = [commit.path for commit in table.commits()[1:]]
    assert [here.read(path) for path in copied] == [source.read(path) for path in copied]
    again = LogitTable(here)
    assert not any(again.adopt(renamed, each, source) for each in LogitTable(source).commits())
    half = LogitTable(tmp_path / "half", "float16")
    assert not any(half.adopt(member, each, source) for each in LogitTable(source).commits())


def test_damaged_shard_of_another_table_is_not_copied(
    filled: Path, member: Member, tmp_path: Path
) -> None:
    shard = shard_of(filled, 1)
    shard.write_bytes(shard.read_bytes()[:-1])
    table = LogitTable(tmp_path / "new")
    with pytest.raises(DamagedTableError, match=rf"{shard.name} .* is damaged: its sha256"):
        table.adopt(member, LogitTable(filled).commits()[1], LocalStore(filled))
    assert table.commits() == ()


def test_place_that_cannot_be_written_is_named(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    root.mkdir()
    (root / "columns").write_text("in the way")
    with pytest.raises(
        TableError, match=rf"cannot write .*{member.column}.*: (Not a directory|File exists)"
    ):
        LogitTable(root).commit(member, make_block(member, IDS))


def test_empty_table_has_no_commits_and_makes_no_folder(root: Path) -> None:
    table = LogitTable(root)
    assert table.commits() == ()
    assert table.root == str(root)
    assert not root.exists()


def test_entry_from_before_kinds_of_device_were_recorded_is_read(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    block = replace(make_block(member, IDS), device_kind="cpu")
    LogitTable(root).commit(member, block)
    (entry,) = entries(root)
    old = json.loads(entry.read_text())
    assert old.pop("device_kind") == "cpu"
    del old["sha256_of_entry"]
    content = json.dumps(old, sort_keys=True).removesuffix("}")
    digest = sha256(content.encode()).hexdigest()
    entry.write_text(f'{content}, "sha256_of_entry": "{digest}"}}\n')
    table = LogitTable(root)
    assert [commit.device_kind for commit in table.commits()] == [None]
    assert table.read(member.column, IDS).tobytes() == block.log_probabilities.tobytes()
