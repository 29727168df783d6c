"""Log entries and shards of strangers: none ends the process, and none of damage passes for sound."""

import json
import random
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DamagedTableError, ProjectError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table import checkpoint, log_entry, log_names, shard_file
from ensemble.table.arrow_columns import ArrowColumns
from ensemble.table.block import LogitBlock
from ensemble.table.checkpoint_writer import write_checkpoints
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import find_faults, repair

from .mutations import mutate

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]
VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1,
    10**18,
    10**400,
    1.5,
    float("nan"),
    "",
    "x" * 64,
    "a" * 64,
    "../../outside",
    "/etc/passwd",
    "columns/0123456789abcdef/0123456789abcdef.arrow",
    "float16",
    "\ud800",
    [],
    ["x"],
    [None],
    {},
    {"a": {"b": []}},
    "commit",
    "removal",
    "fence",
    "group",
    "shard_removal",
)


@dataclass(frozen=True)
class Sound:
    """A sound table in a folder, as bytes by name, and its rows."""

    root: Path
    column: str
    files: dict[str, bytes]
    rows: np.ndarray

    def restore(self) -> None:
        for path in self.root.rglob("*"):
            if path.is_file() and path.relative_to(self.root).as_posix() not in self.files:
                path.unlink()
        for name, data in self.files.items():
            (self.root / name).write_bytes(data)


@pytest.fixture
def sound(tmp_path: Path, make_member: MakeMember, make_block: MakeBlock) -> Sound:
    member, store = make_member("a"), LocalStore(tmp_path / "table")
    table = LogitTable(store)
    table.commit(member, make_block(member, IDS[:4]))
    writer, blocks = (
        table.writer(S3Config()),
        [make_block(member, ids) for ids in (IDS[4:8], IDS[8:])],
    )
    table.count([(member, writer.write(member, block)) for block in blocks])
    (tmp_path / "outside").write_bytes(b"of the user")
    files = {name: store.read(name) for name in store.keys("")}
    return Sound(store.root, member.column, files, table.read(member.column, IDS))


def sign(value: dict[str, object]) -> bytes:
    value.pop("sha256_of_entry", None)
    content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
    return content + log_entry._ending(content)


def damage(sound: Sound, rng: random.Random) -> None:
    """Damage a file as a disk or a network does: nothing that names it is changed along with it."""
    name = rng.choice(list(sound.files))
    (sound.root / name).write_bytes(mutate(sound.files[name], rng))


def forge(sound: Sound, rng: random.Random) -> None:
    """Change an entry or a shard as a stranger does, with digests that agree."""
    name = log_names.key(rng.randrange(2))
    value = json.loads(sound.files[name])
    target = rng.choice([value, *value.get("commits", [])])
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            target[rng.choice([*target, "entry", "reason", "new"])] = rng.choice(VALUES)
        (sound.root / name).write_bytes(sign(value))
        return
    if target is value and "commits" in value:
        target = rng.choice(value["commits"])
    data = mutate(sound.files[target["path"]], rng)
    pieces = shard_file.piece_digests([data])
    digest = shard_file.root_digest(pieces)
    path = f"columns/{sound.column}/{digest[:16]}.arrow"
    changes = {"path": path, "sha256": digest, "pieces": pieces, "size_bytes": len(data)}
    (sound.root / path).write_bytes(data)
    target |= changes
    (sound.root / name).write_bytes(sign(value))


def attack(sound: Sound, rng: random.Random, is_forged: bool) -> str:
    """Read a table after one change; tell what came of it."""
    sound.restore()
    (forge if is_forged else damage)(sound, rng)
    outcome = "refused"
    try:
        rows = LogitTable(sound.root).read(sound.column, IDS)
        outcome = "same" if rows.tobytes() == sound.rows.tobytes() else "other rows"
    except ProjectError:
        pass
    if rng.random() < 0.05:
        store = LocalStore(sound.root)
        faults = repair(store, None)
        assert faults or outcome != "refused" or not is_whole(store)
        assert find_faults(store) == ()
    return outcome


def attack_checkpoint(sound: Sound, rng: random.Random, is_forged: bool) -> str:
    """Open a table after a change of its checkpoint; tell what came of it."""
    name = log_names.checkpoint_key(0)
    data = mutate(sound.files[name], rng)
    if is_forged:
        data = sign_checkpoint(data)
    (sound.root / name).write_bytes(data)
    try:
        checkpoint.decode(0, data)
        outcome = "same" if data == sound.files[name] else "read"
    except (ValueError, RecursionError):
        outcome = "refused"
    if rng.random() < 0.1:
        assert len(LogitTable(sound.root).commits()) == 3 or outcome == "read"
    return outcome


def sign_checkpoint(data: bytes) -> bytes:
    """Put the digest right, as far as the changed bytes have one."""
    try:
        columns = ArrowColumns(data, checkpoint.SCHEMA)
        return data.replace(columns.texts[b"sha256"], columns.digest().encode())
    except (ValueError, KeyError):
        return data


def is_whole(store: LocalStore) -> bool:
    """Whether a table has all rows: a sound removal or fence may stand where a commit was."""
    return sum(commit.rows for commit in LogitTable(store).commits()) == len(IDS)


Attack = Callable[[Sound, random.Random, bool], str]


def _attack_often(
    sound: Sound, seeds: range, attack: Attack, is_forged: bool, out: Connection
) -> None:
    outcomes = Counter[str]()
    for seed in seeds:
        try:
            outcomes[attack(sound, random.Random(seed), is_forged)] += 1
        except BaseException:
            out.send((seed, traceback.format_exc()))
            return
        if (sound.root.parent / "outside").read_bytes() != b"of the user":
            out.send((seed, "it changed a file of the user"))
            return
    out.send(outcomes)


COUNTS = [300, pytest.param(50_000, marks=pytest.mark.nightly)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("is_forged", [False, True], ids=["damaged", "forged"])
def test_entries_and_shards_of_strangers_are_refused_and_end_no_process(
    sound: Sound, is_forged: bool, count: int
) -> None:
    outcomes = outcomes_of(sound, attack, is_forged, count)
    assert outcomes["refused"] > count / 3
    if not is_forged:
        assert not outcomes["other rows"], outcomes


@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("is_forged", [False, True], ids=["damaged", "forged"])
def test_checkpoints_of_strangers_end_no_process_and_damaged_ones_change_nothing(
    sound: Sound, is_forged: bool, count: int
) -> None:
    store = LocalStore(sound.root)
    end = len(list(store.keys("log")))
    fence = log_entry.Fence(writer=0, reason="filled")
    for number in range(end, log_names.CHECKPOINT_ENTRIES):
        (sound.root / log_names.key(number)).write_bytes(log_entry.encode(number, fence))
    assert write_checkpoints(store, log_names.CHECKPOINT_ENTRIES) == (0,)
    name = log_names.checkpoint_key(0)
    sound.files[name] = store.read(name)
    outcomes = outcomes_of(sound, attack_checkpoint, is_forged, count)
    assert outcomes["refused"] > count / 3


def outcomes_of(sound: Sound, attack: Attack, is_forged: bool, count: int) -> Counter[str]:
    """Attack in a process of its own, so that its end is an outcome."""
    here, there = get_context("fork").Pipe()
    process = get_context("fork").Process(
        target=_attack_often, args=(sound, range(count), attack, is_forged, there)
    )
    process.start()
    there.close()
    try:
        outcomes = here.recv()
    except EOFError:
        process.join()
        pytest.fail(f"the process ended with {process.exitcode}")
    process.join()
    assert isinstance(outcomes, Counter), outcomes
    assert outcomes.total() == count
    print(outcomes)
    return outcomes


def forged_shard(sound: Sound, data: bytes) -> None:
    value = json.loads(sound.files[log_names.key(0)])
    pieces = shard_file.piece_digests([data])
    changes = {"sha256": shard_file.root_digest(pieces), "pieces": pieces, "size_bytes": len(data)}
    (sound.root / value["path"]).write_bytes(data)
    (sound.root / log_names.key(0)).write_bytes(sign(value | changes))


def test_shard_whose_rows_begin_elsewhere_than_its_entry_says_is_refused(sound: Sound) -> None:
    value = json.loads(sound.files[log_names.key(0)])
    value["values_start"] -= 4
    (sound.root / log_names.key(0)).write_bytes(sign(value))
    with pytest.raises(DamagedTableError, match=r"its rows begin at byte \d+; expected \d+"):
        LogitTable(sound.root).read(sound.column, IDS)


def test_shard_of_another_form_than_its_entry_says_is_refused(sound: Sound) -> None:
    value = json.loads(sound.files[log_names.key(0)]) | {"dtype": "float16"}
    (sound.root / log_names.key(0)).write_bytes(sign(value))
    with pytest.raises(
        DamagedTableError, match=r"rows are \(4, 3\) of float32; its log entry says .* of float16"
    ):
        LogitTable(sound.root).read(sound.column, IDS)


def test_forged_shard_of_another_table_is_not_copied(sound: Sound, tmp_path: Path) -> None:
    value = json.loads(sound.files[log_names.key(0)])
    forged_shard(sound, sound.files[value["path"]][:-40] + bytes(40))
    (commit, *_) = LogitTable(sound.root).commits()

    @dataclass(frozen=True)
    class Borrower:
        name: str = "a"
        column: str = sound.column
        identity: tuple[tuple[str, object], ...] = ()

    table = LogitTable(tmp_path / "new")
    with pytest.raises(DamagedTableError, match="is not an Arrow file"):
        table.adopt(Borrower(), commit, LocalStore(sound.root))
    assert not (tmp_path / "new").exists()
