"""Where a run's table is, and the right to write it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ensemble.members.member import view_names
from ensemble.storage.open import open_store
from ensemble.storage.probe import require_conditional_writes
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store
from ensemble.table.lease import Lease, hold
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import REFERENCE_SIZE
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder


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


def describe_table(config: RunConfig, place: str, images: int, classes: int) -> str:
    """What a run will keep, in bytes, before it starts."""
    columns = sum(
        len(view_names(m.name, m.views or config.views, REFERENCE_SIZE)) for m in config.members
    )
    row_bytes = classes * (2 if config.table.dtype == "float16" else 4)
    return (
        f"table: {columns} columns x {images} images x {classes} classes in {config.table.dtype}, "
        f"{columns * images * row_bytes / 1e6:,.1f} MB at {place}"
    )


def describe_memory(config: RunConfig) -> str:
    """What of the object store a run takes at most."""
    return (
        f"in the object store up to {config.cluster.shard_window_mb} MB of decoded images of "
        f"{config.cluster.object_store_mb} MB"
    )
