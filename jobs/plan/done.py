"""What a run of the same config has predicted already, and at what pace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.members.member import VIEW_MARK
from ensemble.storage.local_store import LocalStore
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.columns import measured_costs, read_columns
from jobs.stored_runs.layout import COLUMNS
from jobs.stored_runs.tables import table_store


@dataclass(frozen=True)
class DonePredictions:
    """What lies in the table of a run that was begun.

    Attributes:
        place: The run's folder.
        images_left: Number of images that each member has yet to predict, by the member's name.
        images_per_s: Images a second that the run measured, by the name of the member; members that
            predicted nothing are left out.
    """

    place: str
    images_left: Mapping[str, int]
    images_per_s: Mapping[str, float]

    def describe(self, images: int) -> str:
        """Tell in one line what is there already, of so many images a member."""
        done = sum(not left for left in self.images_left.values())
        rows = sum(images - left for left in self.images_left.values())
        return (
            f"{self.place} has all predictions of {done} of {len(self.images_left)} members already, "
            f"{rows} of {images * len(self.images_left)} rows; what the same weights predicted is not computed again"
        )


def find_done(config: RunConfig, folder: Path, image_ids: Sequence[str]) -> DonePredictions | None:
    """Look at what the run of a config has predicted, by its own record; None if it has no record.

    Args:
        config: The settings of the run.
        folder: The run's folder on this machine.
        image_ids: The images that every member predicts.

    Raises:
        TableError: The record or the table cannot be read.
    """
    if not (folder / COLUMNS).is_file():
        return None
    columns = read_columns(LocalStore(folder))
    table = LogitTable(table_store(config, folder))
    commits = tuple(table.commits())
    left, paces = dict[str, int](), dict[str, float]()
    for member in config.members:
        keys = [key for name, key in columns.items() if name.partition(VIEW_MARK)[0] == member.name]
        left[member.name] = max(
            (len(table.missing(key, image_ids)) for key in keys), default=len(image_ids)
        )
        seconds = sum(measured_costs(commits, key)["seconds"] for key in keys)
        if seconds:
            paces[member.name] = 1 / seconds
    return DonePredictions(str(folder), left, paces)
