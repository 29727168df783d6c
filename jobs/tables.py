"""Where a run's table is, and the right to write it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.probe import require_conditional_writes
from ensemble.table.storage import open_store
from ensemble.table.store import Store
from jobs.run_folder import RunFolder
from jobs.settings import RunConfig


def table_store(config: RunConfig, folder: RunFolder) -> Store:
    """The store of a run's table: below `storage.tables` if that is set, in the run's folder if not."""
    if config.storage.tables is None:
        return open_store(folder.table, config.storage)
    return open_store(
        f"{config.storage.tables.rstrip('/')}/{folder.path.name}/table", config.storage
    )


@contextmanager
def writable_table(config: RunConfig, folder: RunFolder) -> Iterator[LogitTable]:
    """A run's table, which no other run writes meanwhile.

    Raises:
        ConfigError: The store cannot keep two runs apart, and that is not accepted.
        TableBusyError: Another run holds it; it is named.
    """
    store, dtype = table_store(config, folder), config.table.dtype
    require_conditional_writes(store, config.storage)
    if store.is_remote and config.storage.single_writer:
        yield LogitTable(store, dtype)
        return
    with hold(store) as lease:
        yield LogitTable(store, dtype, lease)


def describe_table(config: RunConfig, place: str, members: int, images: int, classes: int) -> str:
    """What a run will keep, in bytes, before it starts."""
    row_bytes = classes * (2 if config.table.dtype == "float16" else 4)
    table_mb = members * images * row_bytes / 1e6
    return (
        f"table: {members} columns x {images} images x {classes} classes in {config.table.dtype}, "
        f"{table_mb:,.1f} MB at {place}; in the object store up to "
        f"{config.cluster.shard_window_mb} MB of decoded images of {config.cluster.object_store_mb} MB"
    )
