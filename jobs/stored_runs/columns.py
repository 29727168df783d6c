"""Which column of its table each member of a run has now: a table also keeps those of earlier weights and files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ensemble.errors import ConfigError, DataError, TableError
from ensemble.files import seal, unseal
from ensemble.images.index import ImageIndex
from ensemble.members.member import VIEW_MARK, view_names
from ensemble.members.settings import MemberConfig, Preprocessing
from ensemble.storage.store import Store, read_if_there
from ensemble.table.log_entry import Commit
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import REFERENCE_SIZE
from jobs.settings import RunConfig
from jobs.stored_runs.layout import COLUMNS
from jobs.stored_runs.open import StoredRun


@dataclass(frozen=True)
class Column:
    """One member's predictions in the table.

    Attributes:
        member: The member's name.
        key: The column's identity.
        family: The member's architecture.
        costs: What the run measured per image, by unit; 0 where it did not.
    """

    member: str
    key: str
    family: str
    costs: Mapping[str, float]


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


def find_columns(run: StoredRun, table: LogitTable, index: ImageIndex) -> tuple[Column, ...]:
    """Find each member's column among those of the images as they are now.

    That is the column that the run or the import recorded last; for a run without a record, the last
    one that was committed under the member's name.

    Raises:
        ConfigError: A member has no column.
        DataError: The images are not those that were predicted.
    """
    recorded = read_columns(run.files)
    commits_by_name: dict[str, list[Commit]] = {}
    commits_by_column: dict[str, list[Commit]] = {}
    of_other_images: list[Commit] = []
    for commit in sorted(table.commits(), key=lambda c: c.committed_at):
        classes = commit.identity.get("classes")
        if not isinstance(classes, list) or len(classes) != len(index.classes):
            continue
        if commit.identity.get("data_sha256", index.sha256) != index.sha256:
            of_other_images.append(commit)
            continue
        commits_by_name.setdefault(commit.name, []).append(commit)
        commits_by_column.setdefault(commit.column, []).append(commit)
    known = commits_by_name | {
        name: commits_by_column.get(column, []) for name, column in recorded.items()
    }
    names = [name for member in run.config.members for name in _names(member, run.config, known)]
    lacking = [name for name in names if not known.get(name)]
    if lacking and of_other_images:
        theirs = str(of_other_images[-1].identity["data_sha256"])
        is_imported = run.config.images.source.kind == "listed"
        again = f"ensemble {'table import' if is_imported else 'resume'} {run.files.url}"
        raise DataError(
            f"the images of the run {run.files.url!r} have changed: its table holds predictions of images "
            f"with the identity {theirs[:12]}, and the images that its config names now have "
            f"{index.sha256[:12]}. Joined by id they would get labels of other images. Put the data back, "
            f"or compute predictions of what is there now: `{again}`."
        )
    if lacking:
        raise ConfigError(
            f"the table {table.root} has no predictions of {', '.join(lacking)}. The run is not "
            "finished: the same `ensemble run` goes on with it."
        )
    return tuple(_column(known[name], name) for name in names)


def _names(
    member: MemberConfig, config: RunConfig, commits_by_name: Mapping[str, list[Commit]]
) -> tuple[str, ...]:
    """The columns' names of a member: one a view where views are kept."""
    preprocessings = [
        commit.identity.get("preprocessing")
        for name, commits in commits_by_name.items()
        if name.startswith(f"{member.name}{VIEW_MARK}")
        for commit in commits
    ]
    # Without any commit the reference size names columns that are not there, and are reported so.
    size = (
        Preprocessing.model_validate(preprocessings[-1]).size if preprocessings else REFERENCE_SIZE
    )
    return view_names(member.name, member.views or config.views, size)


def measured_costs(commits: Iterable[Commit], column: str) -> dict[str, float]:
    """Give by unit what the forward passes of a column cost an image; 0 where that is not known."""
    ours = [commit for commit in commits if commit.column == column]
    rows = sum(commit.rows for commit in ours)
    return {
        "seconds": sum(commit.seconds for commit in ours) / rows if rows else 0.0,
        "flops": float(max((commit.flops_per_image or 0 for commit in ours), default=0)),
        "gpu_bytes": float(max((commit.gpu_bytes or 0 for commit in ours), default=0)),
    }


def _column(commits: list[Commit], member: str) -> Column:
    last = commits[-1]
    return Column(
        member=member,
        key=last.column,
        family=str(last.identity.get("architecture", member)),
        costs=measured_costs(commits, last.column),
    )
