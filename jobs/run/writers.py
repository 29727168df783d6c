"""Who writes the table's shards: the workers where they reach its place, and the driver elsewhere."""

from cluster.pool.pool import Pool
from ensemble.table.logit_table import LogitTable

# S3 takes its time for a log entry, however much that counts, and many a second cost money.
_REMOTE_PAUSE_S = 0.5


def count_pause_s(table: LogitTable) -> float:
    """Tell how many seconds lie between two log entries that count what workers wrote."""
    return _REMOTE_PAUSE_S if table.is_remote else 0.0


def workers_write(table: LogitTable, pool: Pool) -> bool:
    """Tell whether every worker reaches the table.

    Workers of a cluster may be on any machine, and a folder may be of this one alone.
    """
    return table.is_remote or pool.is_on_this_machine


def describe_writers(table: LogitTable, pool: Pool) -> str:
    """Tell, before a run predicts, who writes the table."""
    if workers_write(table, pool):
        return "the workers write the table; no row of it passes through the driver"
    return (
        "the driver writes the table, one block after another, because workers on other machines may "
        f"not reach the folder {table.root}; with storage.tables=s3://BUCKET/PREFIX they write it "
        "themselves"
    )
