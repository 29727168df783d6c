"""Opening a large table, in a process of its own: a made-up log, whose shards are named and not there. Linux only."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path

from ensemble.storage.local_store import LocalStore
from ensemble.table.checkpoint_writer import write_checkpoints
from ensemble.table.log_entry import Commit, Group, encode
from ensemble.table.log_names import FOLDER, checkpoint_starts, entry_numbers, key
from ensemble.table.logit_table import LogitTable
from jobs.benchmark.process_memory import peak_bytes, resident_bytes

MEMBERS, CLASSES, SHARD_IMAGES = 13, 10, 128
_BLOCKS_AN_ENTRY = 64


@dataclass(frozen=True)
class Opening:
    """What it took to open a table.

    Attributes:
        entries: Number of log entries.
        checkpoints: Number of files that have most of them.
        open_s: Seconds from nothing to a table that can be read.
        missing_s: Seconds to list what every column lacks, a shard at a time as a run does.
        memory_bytes: Peak of the resident memory, beyond interpreter and libraries.
    """

    entries: int
    checkpoints: int
    open_s: float
    missing_s: float
    memory_bytes: int


def measure_opening(images: int, folder: Path) -> Opening:
    """Make up the log of a table of 13 members with its checkpoints, and open it in a fresh process.

    Args:
        images: Number of images.
        folder: Folder for the table; it must not be there.
    """
    _make_log(images, folder)
    words = [sys.executable, "-m", "jobs.benchmark.table_opening", str(images), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return Opening(**json.loads(done.stdout))


def _make_log(images: int, folder: Path) -> None:
    (folder / key(0)).parent.mkdir(parents=True)
    blocks = list(product(_shards(images), range(MEMBERS)))
    for number, start in enumerate(range(0, len(blocks), _BLOCKS_AN_ENTRY)):
        group = blocks[start : start + _BLOCKS_AN_ENTRY]
        commits = tuple(_commit(image_ids, member) for image_ids, member in group)
        (folder / key(number)).write_bytes(encode(number, Group(commits=commits)))
    write_checkpoints(LocalStore(folder), number + 1)


def _commit(image_ids: tuple[str, ...], member: int) -> Commit:
    digest, column = sha256(f"{member} {image_ids[0]}".encode()).hexdigest(), _column(member)
    return Commit(
        column=column,
        name=f"m{member}",
        identity={"weights_sha256": f"{member:064x}", "views": {"kind": "center"}},
        path=f"columns/{column}/{digest[:16]}.arrow",
        sha256=digest,
        size_bytes=1000 + 4 * CLASSES * len(image_ids),
        dtype="float32",
        image_ids=image_ids,
        classes=CLASSES,
        values_start=1000,
        pieces=(digest,),
        forward_passes=len(image_ids),
        seconds=1.0,
    )


def _column(number: int) -> str:
    return f"{number:016x}"


def _shards(images: int) -> list[tuple[str, ...]]:
    ids = tuple(f"photos/{number:08d}.jpeg" for number in range(images))
    return [ids[start : start + SHARD_IMAGES] for start in range(0, images, SHARD_IMAGES)]


def _open(images: int, folder: Path) -> Opening:
    shards = _shards(images)
    names = [path.relative_to(folder).as_posix() for path in (folder / FOLDER).iterdir()]
    sizes = len(entry_numbers(names)), len(checkpoint_starts(names))
    before = resident_bytes()
    began = time.perf_counter()
    table = LogitTable(folder)
    open_s = time.perf_counter() - began
    began = time.perf_counter()
    lacking = [table.missing(_column(n), ids) for ids, n in product(shards, range(MEMBERS))]
    missing_s = time.perf_counter() - began
    assert not any(lacking), "the made-up table lacks rows"
    return Opening(*sizes, open_s, missing_s, peak_bytes() - before)


if __name__ == "__main__":
    print(json.dumps(vars(_open(int(sys.argv[1]), Path(sys.argv[2])))))
