"""A run's table as a store, the right to write it, and its size before there is one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ensemble.members.member import view_names
from ensemble.storage.open import open_store
from ensemble.storage.probe import require_conditional_writes
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store
from ensemble.table.lease import Lease, hold
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import REFERENCE_SIZE
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, table_place


def table_store(config: RunConfig, run: str | Path) -> Store:
    """Open the store of a run's table; nothing is read or written yet.

    Args:
        config: The run's settings.
        run: The run's folder on this machine, or s3://bucket/prefix/RUN.
    """
    return open_store(table_place(config, run), config.storage)


@contextmanager
def writable_table(
    config: RunConfig, folder: RunFolder, say: Callable[[str], None]
) -> Iterator[LogitTable]:
    """Open a run's table, and keep other runs from writing it meanwhile.

    Args:
        config: The run's settings.
        folder: The run's folder on this machine.
        say: Prints a line if another machine's run has to be watched first.

    Raises:
        ConfigError: The store cannot keep two writers apart, and `storage.single_writer` is not set.
        TableBusyError: Another run holds the table; the message names it.
    """
    store = table_store(config, folder.path)
    with hold_if_shared(store, config.storage, say) as lease:
        yield LogitTable(store, config.table.dtype, lease)


def _say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def hold_if_shared(
    store: Store, storage: StorageConfig, say: Callable[[str], None] = _say_on_stderr
) -> Iterator[Lease | None]:
    """Hold the lease of a table; there is none where the user promised to be its only writer.

    Args:
        store: Store of the table.
        storage: How the store is reached, and whether this is its only writer.
        say: Prints a line if another machine's run has to be watched first.

    Raises:
        ConfigError: The store cannot keep two writers apart, and `storage.single_writer` is not set.
        TableBusyError: Another run holds the table; the message names it.
    """
    require_conditional_writes(store, storage)
    if store.is_remote and storage.single_writer:
        yield None
        return
    with hold(store, say=say) as lease:
        yield lease


def describe_table(config: RunConfig, place: str, images: int, classes: int) -> str:
    """Tell, before a run starts, how large its table will be."""
    columns = sum(
        len(view_names(m.name, m.views or config.views, REFERENCE_SIZE)) for m in config.members
    )
    row_bytes = classes * (2 if config.table.dtype == "float16" else 4)
    return (
        f"table: {columns} columns x {images} images x {classes} classes in {config.table.dtype}, "
        f"{columns * images * row_bytes / 1e6:,.1f} MB at {place}"
    )


def describe_memory(config: RunConfig) -> str:
    """Tell how much of the object store a run takes at most."""
    return (
        f"in the object store up to {config.cluster.shard_window_mb} MB of decoded images of "
        f"{config.cluster.object_store_mb} MB"
    )
