"""Columns that other runs have computed already: copied, checked, and never computed again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ensemble.errors import ConfigError, TableError
from ensemble.members.member import Member
from ensemble.storage.open import open_store
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder


@dataclass(frozen=True)
class OtherRuns:
    """The runs that lie beside one: in the same folder, or below the same prefix.

    A pool with a fourteenth member or with other views is another config, and so another run; what
    its columns have in common with an earlier one's is theirs by identity, whatever members are called.
    """

    config: RunConfig
    folder: RunFolder

    def lend(
        self,
        table: LogitTable,
        members: Sequence[Member],
        image_ids: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """Fill what a table lacks from theirs. One that is damaged is passed over, and named."""
        columns = {m.column for m in members if table.missing(m.column, image_ids)}
        try:
            others = tuple(self._tables(columns)) if columns else ()
        except (ConfigError, TableError) as error:
            # Who may see this run alone computes all of it.
            say(f"what other runs have computed is not used: {error}")
            return
        for other in others:
            lacking = {m.column: m for m in members if table.missing(m.column, image_ids)}
            if not lacking:
                return
            rows = 0
            try:
                for commit in LogitTable(other).commits():
                    member = lacking.get(commit.column)
                    if member is not None and table.adopt(member, commit, other):
                        rows += commit.rows
            except TableError as error:
                say(f"not all of {other.url} is used: {error}")
            if rows:
                say(f"{rows} rows of {other.url} are used again")

    def _tables(self, columns: set[str]) -> Iterator[Store]:
        """Tables that have a folder for one of some columns; each costs one look."""
        storage = self.config.storage
        above = storage.tables or storage.runs or self.config.runs
        beside = open_store(above, storage)
        for name in beside.folders(""):
            if name != self.folder.path.name:
                found = beside.folders(f"{name}/table/columns")
                if not columns.isdisjoint(found):
                    yield open_store(f"{str(above).rstrip('/')}/{name}/table", storage)
