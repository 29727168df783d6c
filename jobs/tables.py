"""Where a run's table is, and the right to write it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ensemble.table.lease import Lease, hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.probe import require_conditional_writes
from ensemble.table.storage import StorageConfig, open_store
from ensemble.table.store import Store
from jobs.run_folder import RunFolder
from jobs.settings import RunConfig


def table_store(config: RunConfig, folder: RunFolder) -> Store:
    """The store of a run's table: below `storage.tables`, or `storage.runs`, or in its folder."""
    above = config.storage.tables or config.storage.runs
    if above is None:
        return open_store(folder.table, config.storage)
    return open_store(f"{above.rstrip('/')}/{folder.path.name}/table", config.storage)


@contextmanager
def writable_table(config: RunConfig, folder: RunFolder) -> Iterator[LogitTable]:
    """A run's table, which no other run writes meanwhile.

    Raises:
        ConfigError: The store cannot keep two runs apart, and that is not accepted.
        TableBusyError: Another run holds it; it is named.
    """
    store = table_store(config, folder)
    with hold_if_shared(store, config.storage) as lease:
        yield LogitTable(store, config.table.dtype, lease)


@contextmanager
def hold_if_shared(store: Store, storage: StorageConfig) -> Iterator[Lease | None]:
    """The lease of a table; none where the user promised to be its only writer.

    Raises:
        ConfigError: The store cannot keep two runs apart, and that is not accepted.
        TableBusyError: Another run holds it; it is named.
    """
    require_conditional_writes(store, storage)
    if store.is_remote and storage.single_writer:
        yield None
        return
    with hold(store) as lease:
        yield lease


def describe_table(config: RunConfig, place: str, members: int, images: int, classes: int) -> str:
    """What a run will keep, in bytes, before it starts."""
    row_bytes = classes * (2 if config.table.dtype == "float16" else 4)
    table_mb = members * images * row_bytes / 1e6
    return (
        f"table: {members} columns x {images} images x {classes} classes in {config.table.dtype}, "
        f"{table_mb:,.1f} MB at {place}; in the object store up to "
        f"{config.cluster.shard_window_mb} MB of decoded images of {config.cluster.object_store_mb} MB"
    )
