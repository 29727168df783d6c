"""Columns that other runs have computed already: copied, checked, and never computed again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ensemble.errors import ConfigError, TableError
from ensemble.members.member import Member
from ensemble.storage.open import open_store
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.layout import TABLE, RunFolder, table_place, tables_folder


@dataclass(frozen=True)
class OtherRuns:
    """The runs that lie beside a run: in the same folder, or below the same prefix.

    A pool with a fourteenth member or with other views is another config, and so another run. Columns
    of one identity hold the same predictions in both, whatever the members are called.
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
        """Copy what a table lacks from the tables of other runs.

        A damaged table is passed over, and `say` tells its name.

        Args:
            table: The table of this run.
            members: The members whose columns are needed.
            image_ids: The images whose predictions are needed.
            say: Prints a line about what is copied or passed over.
        """
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
        """Find the tables that have a folder for one of the columns, by one listing each."""
        storage, above = self.config.storage, tables_folder(self.config)
        beside = open_store(above, storage)
        for name in beside.folders(""):
            if name == self.folder.path.name:
                continue
            if not columns.isdisjoint(beside.folders(f"{name}/{TABLE}/columns")):
                yield open_store(table_place(self.config, f"{above}/{name}"), storage)
