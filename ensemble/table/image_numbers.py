"""Numbers of images, so that ids stand once in memory however many columns have rows of them."""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from jaxtyping import Int32, Shaped

from ensemble.images.shard import BadImage
from ensemble.table.log_entry import Commit, Entry, Group

NO_ROW = -1


class SharedValues:
    """Lets commits share the ids and identities that are equal: most shards have a commit a member."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._identities: dict[str, dict[str, object]] = {}

    def share(self, commit: Commit) -> Commit:
        """Give an equal commit whose ids and identity are those of commits before it, where they are equal."""
        ids = self.ids(commit.image_ids)
        identity = self.identity(commit.column, commit.identity)
        if ids is commit.image_ids and identity is commit.identity:
            return commit
        return commit.altered(image_ids=ids, identity=identity)

    def share_entry(self, entry: Entry) -> Entry:
        """Do so with each commit of an entry, before the next entry is there."""
        if isinstance(entry, Commit):
            return self.share(entry)
        if isinstance(entry, Group):
            return entry.model_copy(update={"commits": tuple(map(self.share, entry.commits))})
        return entry

    def ids(self, image_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Give the ids of an earlier commit if there are equal ones, and these otherwise."""
        return self._ids.setdefault(image_ids, image_ids)

    def identity(self, column: str, identity: dict[str, object]) -> dict[str, object]:
        """Give the identity of an earlier commit of a column if it is equal, and this one otherwise."""
        known = self._identities.setdefault(column, identity)
        return known if known == identity else identity


class ImageNumbers:
    """A number for each image id, in the order in which they come."""

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        # With the ids of each array, because a tuple's address is used again once nothing holds it.
        self._of_tuples: dict[int, tuple[tuple[str, ...], Int32[np.ndarray, " image"]]] = {}
        self._last: tuple[tuple[str, ...], int, Int32[np.ndarray, " image"]] = (
            (),
            0,
            np.zeros(0, np.int32),
        )

    def add(self, image_ids: tuple[str, ...]) -> Int32[np.ndarray, " image"]:
        """Give the numbers of some images; those that have none get the next ones."""
        if id(image_ids) not in self._of_tuples:
            by_id = self._by_id
            numbers = (by_id.setdefault(image_id, len(by_id)) for image_id in image_ids)
            self._of_tuples[id(image_ids)] = (
                image_ids,
                np.fromiter(numbers, np.int32, len(image_ids)),
            )
        return self._of_tuples[id(image_ids)][1]

    def of(
        self, image_ids: Sequence[str] | Shaped[np.ndarray, " image"]
    ) -> Int32[np.ndarray, " image"]:
        """Give the numbers of some images; `NO_ROW` for those that have none."""
        if known := self._of_tuples.get(id(image_ids)):
            return known[1]
        last_ids, size, last_numbers = self._last
        if image_ids is last_ids and size == len(self._by_id):
            return last_numbers
        ids = image_ids.tolist() if isinstance(image_ids, np.ndarray) else image_ids
        numbers = np.fromiter(map(self._by_id.get, ids, repeat(NO_ROW)), np.int32, len(ids))
        if isinstance(image_ids, tuple):
            # A shard is asked for once a member, and a tuple cannot change meanwhile.
            self._last = image_ids, len(self._by_id), numbers
        return numbers


class ColumnRows:
    """Places of a column's rows, which are numbered through its shards in the order of their commits."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.starts: list[int] = []
        self.bad_by_id: dict[str, BadImage] = {}
        # Longer than any number in it, so that the last place, which is also that of `NO_ROW`, is no row.
        self._row_by_number = np.full(1, NO_ROW, np.int32)

    def add(self, commit: Commit, numbers: Int32[np.ndarray, " image"]) -> None:
        """Add a shard; an image that has a row keeps it.

        Args:
            commit: Log entry of the shard.
            numbers: Numbers of the images of its rows.
        """
        start = self.starts[-1] + self.commits[-1].rows if self.commits else 0
        self.starts.append(start)
        self.commits.append(commit)
        size = int(numbers.max(initial=-1)) + 2
        if size > len(self._row_by_number):
            more = max(size, 2 * len(self._row_by_number)) - len(self._row_by_number)
            self._row_by_number = np.append(self._row_by_number, np.full(more, NO_ROW, np.int32))
        rows = np.arange(start, start + len(numbers), dtype=np.int32)
        is_new = self._row_by_number[numbers] == NO_ROW
        # Backwards, because the last of equal numbers stays: the first row of an image is its row.
        self._row_by_number[numbers[is_new][::-1]] = rows[is_new][::-1]
        for bad in (BadImage(entry.image_id, entry.reason) for entry in commit.bad):
            # A file that could not be read is looked at again: it may be mended by now.
            if not bad.is_unread:
                self.bad_by_id[bad.image_id] = bad

    def rows(self, numbers: Int32[np.ndarray, " image"]) -> Int32[np.ndarray, " image"]:
        """Give the row of each of some images; `NO_ROW` where there is none."""
        return self._row_by_number[np.minimum(numbers, len(self._row_by_number) - 1)]
