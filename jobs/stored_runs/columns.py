"""Which column of its table each member of a run has now: a table also keeps those of earlier weights and files."""

import json
from collections.abc import Mapping

from ensemble.errors import TableError
from ensemble.files import seal, unseal
from ensemble.storage.store import Store, read_if_there
from jobs.stored_runs.layout import COLUMNS


def write_columns(files: Store, columns: Mapping[str, str]) -> None:
    """Record the members' columns, over an older record.

    Args:
        files: Store of the run's folder.
        columns: Identity of the column of each member, by the member's name.
    """
    document = seal({"version": 1, "columns": dict(columns)})
    files.replace(COLUMNS, (json.dumps(document, indent=2) + "\n").encode())


def read_columns(files: Store) -> dict[str, str]:
    """Read the record; it is empty for runs that were made before there was one.

    Raises:
        TableError: The record cannot be read.
    """
    content = read_if_there(files, COLUMNS)
    if content is None:
        return {}
    try:
        document = unseal(json.loads(content))
        if document["version"] != 1:
            raise ValueError(f"it is of version {document['version']!r}, expected 1")
        columns = document["columns"]
        if not isinstance(columns, dict):
            raise TypeError(f"its columns are {type(columns).__name__}")
        return {str(name): str(column) for name, column in columns.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise TableError(
            f"{files.url}/{COLUMNS} does not say which columns the members have ({error!r}). The same "
            "`ensemble run`, `resume` or `table import` writes it anew."
        ) from error
