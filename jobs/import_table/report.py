"""What an import did: the lines that are printed, and the record of it in the run's folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.evaluation.suspects import (
    CHANCE_LEVEL,
    EXCHANGE_LEVEL,
    chance_p,
    exchange_p,
    exchanged_classes,
)
from ensemble.files import seal, sha256_of
from ensemble.images.index import ImageIndex
from ensemble.table.imports.classes import Classes
from ensemble.table.imports.columns import list_names
from ensemble.table.imports.contents import ImportedFile
from ensemble.table.imports.join import Join
from ensemble.table.imports.labels import Labels
from jobs.settings import RunConfig

_NUM_NAMED = 5


@dataclass(frozen=True)
class Import:
    """What an import did.

    Attributes:
        config: The settings of the run.
        index: The images.
        lines: What was read from where, and how it was joined.
        notes: What was ignored, and what a user should look at.
    """

    config: RunConfig
    index: ImageIndex
    lines: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """All files, read and joined.

    Attributes:
        files: The files of predictions.
        labels: The labels of all files.
        classes: The classes, and which one each output stands for.
        join: The rows of all files together.
        notes: What was ignored, and what a user should look at.
    """

    files: tuple[ImportedFile, ...]
    labels: tuple[Labels, ...]
    classes: Classes
    join: Join
    notes: tuple[str, ...]


def describe(contents: Contents, config: RunConfig, absent: Sequence[str]) -> Import:
    """Say what was read from where, how it was joined, and what was ignored.

    Args:
        contents: The files.
        config: The settings of the run.
        absent: Classes without an image in the search or the test split.
    """
    joined, notes = contents.join, list(contents.notes)
    lines = [
        f"{file.path}: {len(file.members[0].scores)} rows of "
        f"{list_names([member.name for member in file.members])}"
        for file in contents.files
    ]
    where = " and ".join(part.where for part in contents.labels[:_NUM_NAMED])
    more = len(contents.labels) - _NUM_NAMED
    agree = ", which agree" if len(contents.labels) > 1 else ""
    lines.append(f"labels: {where}{f' and {more} more' if more > 0 else ''}{agree}")
    lines.append(f"{len(joined.index)} images joined by {joined.by}")
    names = joined.index.classes
    lines.append(f"{len(names)} classes: {list_names(names)}")
    if absent:
        notes.append(
            f"{len(absent)} of {len(names)} classes have no image in the search or the test split "
            f"({list_names(absent)}): errors on them are not seen"
        )
    return Import(config, joined.index, tuple(lines), tuple(notes))


def encode(contents: Contents, report: Import, columns: dict[str, str]) -> bytes:
    """Encode the record of an import, with the column that each member has."""
    document = {
        "version": 1,
        "files": [
            {
                "path": str(file.path.absolute()),
                "sha256": sha256_of(file.path),
                "members": [member.name for member in file.members],
            }
            for file in contents.files
        ],
        "columns": columns,
        "images": len(report.index),
        "joined_by": contents.join.by,
        "class_maps": {
            member.name: list(class_map)
            for member, class_map in zip(contents.join.members, contents.classes.maps, strict=True)
        },
        "lines": list(report.lines),
        "notes": list(report.notes),
    }
    return (json.dumps(seal(document), indent=2) + "\n").encode()


def order_note(name: str, answers: Int[np.ndarray, "image"], index: ImageIndex) -> str | None:
    """Say whether a member's classes are exchanged.

    Args:
        name: Name of the member.
        answers: Class with the highest score of each image; -1 where that is no class.
        index: The images.
    """
    answers, labels = _known(answers, index)
    count = len(index.classes)
    if len(labels) < 2 or exchange_p(answers, labels, count) > EXCHANGE_LEVEL:
        return None
    order = exchanged_classes(answers, labels, count)
    before, after = ((part != labels).mean() for part in (answers, order[answers]))
    first = int(np.flatnonzero(order != np.arange(count))[0])
    return (
        f"{name} has exchanged classes: {before:.1%} top-1 errors, and {after:.1%} if "
        f"{index.classes[first]!r} is read as {index.classes[order[first]]!r}, and so on. Its outputs "
        "are in another order than the classes; give --classes or --class-map"
    )


def chance_note(name: str, answers: Int[np.ndarray, "image"], index: ImageIndex) -> str | None:
    """Say whether a member is no better than chance.

    Args:
        name: Name of the member.
        answers: Class with the highest score of each image; -1 where that is no class.
        index: The images.
    """
    answers, labels = _known(answers, index)
    if len(labels) < 2 or chance_p(answers, labels, len(index.classes)) <= CHANCE_LEVEL:
        return None
    return (
        f"{name} is at chance: {(answers != labels).mean():.1%} top-1 errors. Are these features, are rows "
        "or classes in another order, or are labels counted from 1?"
    )


def _known(
    answers: Int[np.ndarray, "image"], index: ImageIndex
) -> tuple[Int[np.ndarray, "known"], Int[np.ndarray, "known"]]:
    return answers[answers >= 0], index.labels[answers >= 0]
