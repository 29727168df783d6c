"""Who writes the table's shards: the workers where they reach its place, and the driver elsewhere."""

from ensemble.config import S3_SCHEME
from ensemble.table.logit_table import LogitTable

# S3 takes its time for a log entry, however much that counts, and many a second cost money.
_REMOTE_PAUSE_S = 0.5


def count_pause_s(table: LogitTable) -> float:
    """Tell how many seconds lie between two log entries that count what workers wrote."""
    return _REMOTE_PAUSE_S if table.is_remote else 0.0


def workers_write(place: str, is_on_this_machine: bool) -> bool:
    """Tell whether every worker reaches the table, so that workers write it.

    Workers of a cluster may be on any machine, and a folder may be of this one alone.

    Args:
        place: Folder or s3://bucket/prefix of the table.
        is_on_this_machine: Whether every worker is on the machine of the driver.
    """
    return place.startswith(S3_SCHEME) or is_on_this_machine


def describe_writers(place: str, is_on_this_machine: bool) -> str:
    """Tell, before a run predicts, who writes the table; see `workers_write`."""
    if workers_write(place, is_on_this_machine):
        return "the workers write the table; no row of it passes through the driver"
    return (
        "the driver writes the table, one block after another, because workers on other machines may "
        f"not reach the folder {place}; with storage.tables=s3://BUCKET/PREFIX they write it "
        "themselves"
    )
