"""Two writers of one table: one is paused before any step, and goes on after the other took over."""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ensemble.errors import TableError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.s3_store import S3Store
from ensemble.storage.settings import S3Config, StorageConfig
from ensemble.storage.store import Store
from ensemble.table import log_names
from ensemble.table.block import LogitBlock
from ensemble.table.lease import hold
from ensemble.table.lease_holder import as_bytes, latest_lease, lease_key
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, find_faults, repair, unreferenced

from ..conftest import MakeStore
from .pausing_store import PausingStore

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]
WATCH_S = 0.02
_STOPPED = re.compile(
    r"is writing the table|lost the table|took over the table|is sound now|cannot write .*: No such file"
)


@dataclass(frozen=True)
class Case:
    """What the second writer does while the first one is paused.

    Attributes:
        hours: How far the clock of the first writer's machine is ahead.
        gc: Whether, and when, unused files are removed: before or after the second one's commits.
        is_same: Whether the second writer computes the very block that the first one commits.
    """

    hours: int
    gc: str
    is_same: bool


CASES = [
    Case(hours, gc, is_same)
    for hours in (-1, 1)
    for gc in ("", "before", "after")
    for is_same in (False, True)
]


class Pair:
    """Two writers of one table, of which the first one is on another machine for the second."""

    def __init__(self, store: Store, member: Member, make_block: MakeBlock) -> None:
        self.store, self.member, self.make_block = store, member, make_block

    def prepare(self, work: str) -> None:
        """Make a table for the first writer's work: one that lacks, or has lost, the second block."""
        self.commit(self.store, [0] if work in {"commit", "count"} else [0, 4])
        path = LogitTable(self.store).commits()[-1].path
        if work == "gc":
            self.store.remove(log_names.key(1))
        if work == "repair":
            self.store.replace(path, b"damaged")

    def block(self, start: int) -> LogitBlock:
        return self.make_block(self.member, IDS[start : start + 4])

    def commit(self, store: Store, starts: Sequence[int]) -> None:
        # So long that no renewal runs beside the paused writer: the whole process is paused.
        with hold(store, duration_s=60.0) as lease:
            table = LogitTable(store, lease=lease)
            for start in starts:
                table.commit(self.member, self.block(start))

    def count(self, store: Store, starts: Sequence[int]) -> None:
        """Count blocks that workers wrote, all by one entry."""
        with hold(store, duration_s=60.0) as lease:
            table = LogitTable(store, lease=lease)
            writer = table.writer(S3Config())
            blocks = [self.block(start) for start in starts]
            table.count([(self.member, writer.write(self.member, block)) for block in blocks])

    def go_on(self, first: Store, work: str) -> str:
        """Let the first writer do its work, and tell whether it was stopped."""
        try:
            if work == "commit":
                self.commit(first, [4])
                return "went on"
            if work == "count":
                self.count(first, [4, 8])
                return "went on"
            with hold(first, duration_s=60.0) as lease:
                if work == "gc":
                    collect(first, lease, young_s=0.0)
                else:
                    repair(first, lease)
        except TableError as error:
            # Its own half-written file may be gone, too: here no file is too young for gc.
            return "stopped" if _STOPPED.search(str(error)) else f"failed: {error}"
        return "went on"

    def pretend_elsewhere(self, hours: int) -> None:
        """Make the lease one of a driver on another machine, whose clock is that much ahead."""
        latest = latest_lease(self.store)
        if latest.holder is not None and latest.holder.expires_at:
            changes = {
                "process": "another-boot pid:[1] 7",
                "expires_at": time.time() + hours * 3600,
            }
            holder = latest.holder.model_copy(update=changes)
            self.store.replace(lease_key(latest.number), as_bytes(holder))

    def take_over(self, case: Case) -> None:
        try:
            self._take_over(case)
        except TableError as error:
            raise AssertionError("the second writer was stopped") from error

    def _take_over(self, case: Case) -> None:
        self.pretend_elsewhere(case.hours)
        with hold(self.store, duration_s=WATCH_S) as lease:
            repair(self.store, lease)
            table = LogitTable(self.store, lease=lease)
            if case.gc == "before":
                collect(self.store, lease, young_s=0.0)
            table.commit(self.member, self.block(4 if case.is_same else 8))
            if case.gc == "after":
                collect(self.store, lease, young_s=0.0)
        self.named = {commit.path for commit in LogitTable(self.store).commits()}

    def check(self) -> None:
        """No entry lacks its shard, no shard is gone, and a third writer finishes the table."""
        assert find_faults(self.store) == ()
        commits = LogitTable(self.store).commits()
        assert self.named <= {commit.path for commit in commits} <= set(self.store.keys("columns"))
        self.take_over(Case(0, "after", is_same=False))
        self.commit(self.store, (0, 4, 8))
        table = LogitTable(self.store)
        assert (
            table.read(self.member.column, IDS).tobytes()
            == self.make_block(self.member, IDS).log_probabilities.tobytes()
        )
        assert sum(commit.rows for commit in table.commits()) == len(IDS)
        assert unreferenced(self.store, table.commits()) == ()


def pause_everywhere(
    make: Callable[[str], Pair], cases: Sequence[Case], work: str = "commit"
) -> Counter[str]:
    """Pause the first writer before each of its steps in turn, and let the second one take over."""
    outcomes = Counter[str]()
    for number, case in enumerate(cases):
        step = 0
        while True:
            step += 1
            pair = make(f"{number}-{step}")
            pair.prepare(work)
            first = PausingStore(pair.store, step, lambda p=pair, c=case: p.take_over(c))
            outcome = pair.go_on(first, work)
            if first.steps < step:
                break
            outcomes[outcome] += 1
            pair.check()
    return outcomes


@pytest.mark.parametrize("work", ["commit", pytest.param("count", marks=pytest.mark.nightly)])
def test_writer_that_is_paused_anywhere_harms_nothing_when_it_goes_on(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, work: str
) -> None:
    member = make_member("a")
    outcomes = pause_everywhere(
        lambda name: Pair(LocalStore(tmp_path / name), member, make_block), CASES[2:3], work
    )
    assert outcomes.keys() == {"stopped", "went on"}
    assert outcomes["stopped"] > 5


@pytest.mark.nightly
@pytest.mark.parametrize("work", ["gc", "repair"])
def test_gc_or_repair_that_is_paused_anywhere_harms_nothing_when_it_goes_on(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, work: str
) -> None:
    member = make_member("a")
    outcomes = pause_everywhere(
        lambda name: Pair(LocalStore(tmp_path / name), member, make_block), CASES[1:2], work
    )
    print(outcomes)
    assert outcomes.keys() == {"stopped", "went on"}
    assert outcomes["stopped"] > 5


@pytest.mark.nightly
@pytest.mark.parametrize("work", ["commit", "count"])
def test_writer_that_is_paused_anywhere_harms_nothing_in_all_cases(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, work: str
) -> None:
    member = make_member("a")
    outcomes = pause_everywhere(
        lambda name: Pair(LocalStore(tmp_path / name), member, make_block), CASES, work
    )
    print(outcomes)
    assert outcomes.keys() == {"stopped", "went on"}
    assert outcomes.total() >= {"commit": 200, "count": 150}[work]


@pytest.mark.nightly
def test_writer_that_is_paused_anywhere_harms_nothing_on_s3(
    moto_port: int, make_store: MakeStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    member, store = make_member("a"), make_store(moto_port)
    config = StorageConfig(endpoint=f"http://127.0.0.1:{moto_port}")

    def make(name: str) -> Pair:
        return Pair(S3Store(f"{store.url}/{name}", config), member, make_block)

    outcomes = pause_everywhere(make, CASES)
    print(outcomes)
    assert outcomes.keys() == {"stopped", "went on"}
    assert outcomes.total() >= 200


def _commit_until_stopped(
    root: Path, member: Member, make_block: MakeBlock, out: Connection
) -> None:
    """Commit small blocks as fast as it goes, and tell what ended that."""
    store = LocalStore(root)
    try:
        with hold(store, duration_s=0.3) as lease:
            table = LogitTable(store, lease=lease)
            for number in range(100_000):
                table.commit(member, make_block(member, [f"first-{number}"]))
    except TableError as error:
        out.send(str(error))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_process_that_is_paused_past_its_lease_never_commits_again(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, seed: int
) -> None:
    member, store, rng = make_member("a"), LocalStore(tmp_path), random.Random(seed)
    pair = Pair(store, member, make_block)
    here, there = get_context("fork").Pipe()
    first = get_context("fork").Process(
        target=_commit_until_stopped, args=(tmp_path, member, make_block, there)
    )
    first.start()
    assert first.pid is not None
    while len(list(store.keys("log"))) < 5:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(first.pid, signal.SIGSTOP)
    pair.pretend_elsewhere(hours=0)
    before = LogitTable(store).commits()
    with hold(store, duration_s=0.3) as lease:
        table = LogitTable(store, lease=lease)
        table.commit(member, make_block(member, ["second"]))
        os.kill(first.pid, signal.SIGCONT)
        assert _STOPPED.search(here.recv())
        first.join()
        table.commit(member, make_block(member, ["third"]))
    after = LogitTable(store).commits()
    assert [c.image_ids for c in after[len(before) :]] == [("second",), ("third",)]
    assert find_faults(store) == ()
