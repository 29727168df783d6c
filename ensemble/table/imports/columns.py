"""Files with named columns, CSV and Parquet, and the part that each column plays by its name and content."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from ensemble.errors import DataError


def words(text: str) -> list[str]:
    """Split names that stand in one text, which keeps long lists of them readable."""
    return text.split()


ID_NAMES = frozenset(
    words(
        """image_id image_ids image_index imageid id ids image images image_name img img_id filename
        filenames file_name file files filepath file_path path paths image_path img_path name names key
        keys uuid"""
    )
)


# In the order in which one of them is taken for the labels.
LABEL_NAMES = words(
    """label labels target targets y y_true y_test y_val true true_label true_labels truth ground_truth
    groundtruth gt one_hot onehot label_id label_index class_id class_index class_label class class_name
    label_name"""
)


_ROW_NAMES = frozenset(["", "unnamed:_0", "index", "__index_level_0__", "level_0", "row", "row_id"])


# What exporters put beside the scores of classes.
_OTHER_NAMES = frozenset(
    words(
        """fold split pred preds prediction predictions predicted y_pred predicted_label pred_label
        predicted_class pred_class confidence conf max_prob loss correct is_correct entropy"""
    )
)


_NUM_NAMED = 5


TOP_CLASS = re.compile(r"(?:top_?)?class_?(\d+)")


TOP_SCORE = re.compile(r"(?:top_?)?(?:score|prob|probability)_?(\d+)")


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a file.

    Attributes:
        name: Name in the header; its number, counted from 0, where the file has none.
        values: Text, or numbers; two-dimensional where each row holds a list.
        is_named: Whether the file has a name for it.
    """

    name: str
    values: Shaped[np.ndarray, "..."]
    is_named: bool = True

    @property
    def key(self) -> str:
        """The name as roles are looked up: lower case, with underscores."""
        return re.sub(r"[\s-]+", "_", self.name.strip().lower())

    @property
    def is_list(self) -> bool:
        """Whether each row holds a list of numbers."""
        return self.values.ndim == 2

    def numbers(self) -> Float[np.ndarray, "..."] | None:
        """Give the column as numbers; None if some row is not one."""
        if self.values.dtype.kind != "U":
            return self.values.astype(np.float64)
        texts = self.values.tolist()
        if any("_" in text for text in texts):  # 1_0 would be read as 10
            return None
        try:
            return np.array(texts, np.str_).astype(np.float64)
        except ValueError:
            return None

    def whole_numbers(self) -> Float[np.ndarray, "row"] | None:
        """Give the column as numbers without a fraction; None if some row is not one."""
        numbers = None if self.is_list else self.numbers()
        if numbers is None or not np.isfinite(numbers).all() or (numbers % 1).any():
            return None
        return numbers

    def texts(self) -> Shaped[np.ndarray, "row"]:
        """Give the column as text; whole numbers without a fraction."""
        if self.values.dtype.kind == "U":
            return np.char.strip(self.values)
        if self.values.dtype.kind == "f" and (whole := self.whole_numbers()) is not None:
            return whole.astype(np.int64).astype(np.str_)
        return self.values.astype(np.str_)

    def is_unique(self) -> bool:
        """Tell whether no two rows are alike."""
        return not self.is_list and len(np.unique(self.values)) == len(self.values)


def ids_in(array: np.ndarray, where: str) -> Shaped[np.ndarray, "image"]:
    """Read an array of ids as text.

    Args:
        array: Text or whole numbers, of shape [image] or [image, 1].
        where: What messages call it.

    Raises:
        DataError: The array is none of these.
    """
    if not array.ndim or array.size != len(array):
        raise DataError(f"{where} is of shape {list(array.shape)}; expected an id for each image.")
    column = Column("image_ids", array.reshape(-1))
    if array.dtype.kind not in "iuUf" or (
        array.dtype.kind == "f" and column.whole_numbers() is None
    ):
        raise DataError(f"{where} is of the type {array.dtype}; expected text or whole numbers.")
    return column.texts()


@dataclass(frozen=True)
class Parts:
    """The columns of a file by the part they play.

    Attributes:
        ids: Column with the id of each row; None if there is none.
        labels: Columns with the label of each row, all of numbers or all of text.
        scores: Columns that may hold the score of a class.
        ignored: What was left aside, in words.
    """

    ids: Column | None
    labels: tuple[Column, ...]
    scores: tuple[Column, ...]
    ignored: tuple[str, ...]


def assign_parts(columns: Sequence[Column], class_names: Sequence[str] = ()) -> Parts:
    """Find ids and labels among columns; what names no class is left aside, and said.

    Args:
        columns: Columns of one file.
        class_names: Known names of classes; a column of such a name is that class.
    """
    left = [column for column in columns if column.name not in class_names]
    ids = next((c for c in left if c.key in ID_NAMES and _may_be_ids(c)), None)
    labelled = sorted(
        (c for c in left if c is not ids and c.key in LABEL_NAMES and _may_be_labels(c)),
        key=lambda c: LABEL_NAMES.index(c.key),
    )
    rows = [c for c in left if c.key in _ROW_NAMES and c.whole_numbers() is not None]
    labels = tuple(c for c in labelled if _is_text(c) == _is_text(labelled[0]))
    if ids is None:
        # A frame that was shuffled keeps its index; one that counts its rows says nothing.
        ids = next((c for c in rows if not _counts_rows(c) and c.is_unique()), None)
    texts = [c for c in left if c is not ids and c not in labelled and c.numbers() is None]
    for column in texts:
        if not TOP_CLASS.fullmatch(column.key):
            _refuse_bad_numbers(column)
    if ids is None:
        ids = next((c for c in texts if not c.is_list and c.is_unique()), None)
    taken = [ids, *labelled, *texts, *rows, *(c for c in left if c.key in _OTHER_NAMES)]
    scores = tuple(c for c in columns if c not in taken)
    tops = {c.name for c in columns if TOP_CLASS.fullmatch(c.key)}
    ignored = [
        f"the column {c.name!r:.80}"
        for c in columns
        if c not in (ids, *labels, *scores) and c.name not in tops
    ]
    scores += tuple(c for c in texts if c.name in tops)
    return Parts(ids, labels, scores, tuple(ignored))


def list_names(names: Sequence[str]) -> str:
    """Quote the first few of some names, and count the others."""
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(f"{name!r:.80}" for name in names[:_NUM_NAMED]) + more


def _may_be_ids(column: Column) -> bool:
    return not column.is_list and (column.numbers() is None or column.whole_numbers() is not None)


def _may_be_labels(column: Column) -> bool:
    return column.is_list or _may_be_ids(column)


def _is_text(column: Column) -> bool:
    return column.numbers() is None


def _refuse_bad_numbers(column: Column) -> None:
    """Tell text from numbers with a few cells that are none, which must not be left aside in silence."""
    cells = column.values.tolist()
    bad = [row for row, cell in enumerate(cells) if not are_numbers([cell])]
    if len(bad) * 2 < len(cells):
        raise DataError(
            f"the column {column.name!r:.80} holds numbers, and in row {bad[0]} (of {len(bad)} such rows) "
            f"{cells[bad[0]]!r:.80}. Mend it, or remove the column."
        )


def _counts_rows(column: Column) -> bool:
    whole = column.whole_numbers()
    return whole is not None and bool((whole - whole[0] == np.arange(len(whole))).all())


def are_numbers(cells: Sequence[str]) -> bool:
    """Tell whether all cells are numbers."""
    return Column("", np.array(cells, np.str_)).numbers() is not None
