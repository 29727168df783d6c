"""Files from elsewhere joined into one list of images: by image id where there are ids, else by row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from ensemble.errors import DataError
from ensemble.images.index import ImageIndex
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.class_files import check_name
from ensemble.table.imports.classes import Classes
from ensemble.table.imports.labels import Labels, resolve_labels

_NUMBER = re.compile(r"([0-9]{1,18})")

# Ids of the rows of a file, as text; files have other numbers of rows.
Ids = np.ndarray


@dataclass(frozen=True)
class Join:
    """What files say together.

    Attributes:
        index: The labelled images that every member has predicted.
        members: The predictions, in the order of the index.
        by: How rows were joined, in words.
        notes: What was left aside, in words.
    """

    index: ImageIndex
    members: tuple[ImportedPredictions, ...]
    by: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Rows of a file, with the id of each."""

    name: str
    row_by_id: dict[str, int]


def join(
    members: Sequence[ImportedPredictions],
    paths: Sequence[str],
    labels: Sequence[Labels],
    classes: Classes,
    first_label: int | None,
) -> Join:
    """Put the rows of all files together.

    Args:
        members: The predictions of all files.
        paths: The file of each member.
        labels: Labels of all files; the first ones give the order of the images.
        classes: The classes.
        first_label: Number of the first class where labels are numbers; None if the user does not say.

    Raises:
        DataError: Ids stand twice or have no partner, labels contradict each other, or nothing says
            which row is which image.
    """
    notes: list[str] = []
    parts = [(m.name, len(m.scores), m.image_ids) for m in members]
    parts += [(part.where, len(part.values), part.image_ids) for part in labels]
    order, by = _common_order(parts)
    _check_rows(members, paths, labels, order)
    sources = [_source(member.name, member.image_ids, order) for member in members]
    label_by_id = _join_labels(labels, order, classes.names, first_label, notes)
    image_ids = _images(sources, list(label_by_id), notes)
    index = ImageIndex(
        "listed-1",
        np.array(image_ids, np.str_),
        np.array([label_by_id[i] for i in image_ids], np.int64),
        classes.names,
    )
    ordered = [
        _take(member, source, image_ids) for member, source in zip(members, sources, strict=True)
    ]
    return Join(index, tuple(ordered), by, tuple(notes))


def _common_order(
    parts: Sequence[tuple[str, int, Ids | None]],
) -> tuple[Ids, str]:
    """Find the ids of rows that stand in files without ids, and tell how rows are joined."""
    with_ids = [(name, ids) for name, _, ids in parts if ids is not None]
    without = [(name, rows) for name, rows, ids in parts if ids is None]
    if not with_ids:
        name, rows = without[-1]
        for other, count in without:
            if count != rows:
                raise DataError(
                    f"{other} has {count} rows, and {name} has {rows}; expected as many images in each "
                    "file that has no ids. Give the same images, or ids (image_id)."
                )
        return np.array([f"{row:08d}" for row in range(rows)]), "row, as no file has ids"
    first_name, first = with_ids[0]
    if not without:
        return first, "image id"
    for name, ids in with_ids[1:]:
        if not np.array_equal(ids, first):
            raise DataError(
                f"{without[0][0]} has no image ids, and those of {first_name} and {name} are not in one "
                f"order: nothing says which row of {without[0][0]} is which image. Give it ids: a column "
                "image_id, or an array image_ids."
            )
    for name, rows in without:
        if rows != len(first):
            raise DataError(
                f"{name} has {rows} rows and no image ids, and {first_name} has {len(first)} rows; "
                "expected as many. Give the same images, or ids: a column image_id, or an array image_ids."
            )
    names = ", ".join(dict.fromkeys(name for name, _ in without))
    return first, f"image id, and by row where there are no ids ({names})"


def _check_rows(
    members: Sequence[ImportedPredictions],
    paths: Sequence[str],
    labels: Sequence[Labels],
    order: Ids,
) -> None:
    """Refuse to join by row what stands in an order that one file alone has made, as a loader that shuffles."""
    without = [m.name for m in members if m.image_ids is None]
    without += [part.where for part in labels if part.image_ids is None]
    with_ids = {path for path, m in zip(paths, members, strict=True) if m.image_ids is not None}
    is_listed = any(
        part.image_ids is not None and not any(part.where.startswith(f"{p}: ") for p in paths)
        for part in labels
    )
    if not without or is_listed or len(with_ids) != 1 or _is_sorted(order.tolist()):
        return
    raise DataError(
        f"{without[0]} has no image ids, and {next(iter(with_ids))} has its rows in an order of its own, "
        f"from {str(order[0])!r:.80} to {str(order[-1])!r:.80}: nothing says which row of {without[0]} is which "
        "image. Give it ids: a column image_id, or an array image_ids."
    )


def _is_sorted(ids: Sequence[str]) -> bool:
    """Tell whether ids are in the order of text, or in that of the numbers in them."""
    return ids in (sorted(ids), sorted(ids, key=_natural))


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(text)]


def _source(name: str, ids: Ids | None, order: Ids) -> _Source:
    texts = [str(image_id) for image_id in (order if ids is None else ids).tolist()]
    row_by_id = {image_id: row for row, image_id in enumerate(texts)}
    if len(row_by_id) != len(texts):
        twice = next(i for row, i in enumerate(texts) if row_by_id[i] != row)
        raise DataError(
            f"{name}: {len(texts) - len(row_by_id)} of {len(texts)} rows have an id that stands twice, such "
            f"as {twice!r:.80}. Each image may stand once; remove the other rows."
        )
    for image_id in row_by_id:
        check_name(image_id, f"the image id {image_id!r:.80} of {name}")
    return _Source(name, row_by_id)


def _join_labels(
    labels: Sequence[Labels],
    order: Ids,
    names: Sequence[str],
    first_label: int | None,
    notes: list[str],
) -> dict[str, int]:
    """Give the label of each image, and refuse files that contradict each other."""
    label_by_id: dict[str, int] = {}
    where_by_id: dict[str, str] = {}
    for part in labels:
        values = resolve_labels(part, names, first_label).tolist()
        ids = (order if part.image_ids is None else part.image_ids).tolist()
        pairs = list(zip(map(str, ids), values, strict=True))
        wrong = [(i, v) for i, v in pairs if label_by_id.setdefault(i, v) != v]
        if wrong:
            image_id, value = wrong[0]
            where = where_by_id.get(image_id, part.where)
            raise DataError(
                f"labels contradict each other for {len(wrong)} of {len(pairs)} images: {image_id!r:.80} is "
                f"{names[value]!r:.80} in {part.where} and {names[label_by_id[image_id]]!r:.80} in {where}. Are the "
                "rows in another order? Give image ids, or the labels of one file only."
            )
        if again := len(pairs) - len({i for i, _ in pairs}):
            notes.append(f"{part.where}: {again} images stand twice, with the same label")
        for image_id, _ in pairs:
            where_by_id.setdefault(image_id, part.where)
    for image_id in label_by_id:
        check_name(image_id, f"the image id {image_id!r:.80} of the labels")
    return label_by_id


def _images(sources: Sequence[_Source], labelled: Sequence[str], notes: list[str]) -> list[str]:
    """Give the images that have a label and a prediction of every member, in the order of the labels."""
    anywhere = set[str]().union(*(source.row_by_id for source in sources))
    images = [image_id for image_id in labelled if image_id in anywhere]
    if not images:
        raise DataError(
            f"no image has both a label and a prediction: ids of the labels are such as {labelled[0]!r:.80}, "
            f"and those of {sources[0].name} such as {next(iter(sources[0].row_by_id))!r:.80}. Make the ids "
            "the same."
        )
    for source in sources:
        lacking = [image_id for image_id in images if image_id not in source.row_by_id]
        if lacking:
            raise DataError(
                f"{source.name} has no prediction of {len(lacking)} of {len(images)} images, as "
                f"{lacking[0]!r:.80}. {_how_to_fill(source, sources, images)}"
            )
    if left := len(labelled) - len(images):
        example = next(i for i in labelled if i not in anywhere)
        notes.append(
            f"ignored {left} labels of images that no member predicted, as {example!r:.80}"
        )
    known = set(images)
    for source in sources:
        if unlabelled := [i for i in source.row_by_id if i not in known]:
            notes.append(
                f"{source.name}: ignored {len(unlabelled)} rows of images without a label, as "
                f"{unlabelled[0]!r:.80}"
            )
    return images


def _how_to_fill(source: _Source, sources: Sequence[_Source], images: Sequence[str]) -> str:
    ids = source.row_by_id
    lists = [("the labels", images), *((other.name, list(other.row_by_id)) for other in sources)]
    for name, others in lists:
        if ids.keys().isdisjoint(others):
            return (
                f"Its ids are such as {next(iter(ids))!r:.80}, and those of {name} such as "
                f"{others[0]!r:.80}: none is the same. Make the ids the same."
            )
    return "Leave them out of the labels, or give the predictions."


def _take(
    member: ImportedPredictions, source: _Source, image_ids: Sequence[str]
) -> ImportedPredictions:
    rows: Int[np.ndarray, image] = np.array([source.row_by_id[i] for i in image_ids], np.int64)
    top = None if member.top is None else member.top[rows]
    ids = np.array(image_ids, np.str_)
    return replace(member, scores=member.scores[rows], top=top, image_ids=ids)
