"""Names of what a table's log and its shards are kept under."""

import re
from collections.abc import Iterable

from ensemble.storage.store import Store
from ensemble.table.log_entry import SHARD_PATH, SHARDS

FOLDER = "log"
# Entries that a checkpoint holds: always the same ones, so that every writer makes the same checkpoint.
CHECKPOINT_ENTRIES = 256
_ENTRY_NAME = re.compile(rf"{FOLDER}/(\d{{8}})\.json")
_CHECKPOINT_NAME = re.compile(rf"{FOLDER}/(\d{{8}})-(\d{{8}})\.arrow")


def key(number: int) -> str:
    """Name the object of an entry."""
    return f"{FOLDER}/{number:08d}.json"


def entry_numbers(names: Iterable[str]) -> list[int]:
    """Give the numbers of the entries among some names; those of other programs are passed over."""
    return [int(match[1]) for name in names if (match := _ENTRY_NAME.fullmatch(name))]


def checkpoint_key(first: int) -> str:
    """Name the object of a checkpoint, by the number of its first entry."""
    return f"{FOLDER}/{first:08d}-{first + CHECKPOINT_ENTRIES - 1:08d}.arrow"


def checkpoint_starts(names: Iterable[str]) -> list[int]:
    """Give the numbers of the first entries of the checkpoints among some names."""
    firsts = [int(match[1]) for name in names if (match := _CHECKPOINT_NAME.fullmatch(name))]
    known = set(names)
    return [
        first
        for first in firsts
        if checkpoint_key(first) in known and not first % CHECKPOINT_ENTRIES
    ]


def shard_paths(store: Store) -> tuple[str, ...]:
    """List the paths of all shard files, sorted; files of other programs are passed over."""
    return tuple(filter(re.compile(SHARD_PATH).fullmatch, store.keys(SHARDS)))
