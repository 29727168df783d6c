"""Which class each output and each label of files from elsewhere stands for: by name where there are names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.errors import DataError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.class_files import MAX_CLASSES, ClassMap
from ensemble.table.imports.columns import list_names
from ensemble.table.imports.labels import Labels


@dataclass(frozen=True)
class Classes:
    """The classes of an import.

    Attributes:
        names: Name of each class, in order.
        maps: Class of each output, for each member; None for an output that is no class.
        notes: How outputs were matched with classes, where that is not by place alone.
    """

    names: tuple[str, ...]
    maps: tuple[ClassMap, ...]
    notes: tuple[str, ...]


def resolve_classes(
    members: Sequence[ImportedPredictions],
    labels: Sequence[Labels],
    names: Sequence[str] | None,
    class_map: ClassMap | None,
) -> Classes:
    """Find the classes, and which one each output of each member stands for.

    Args:
        members: The predictions.
        labels: Labels of all files.
        names: Names of the classes as the user or a file lists them; None if nobody does.
        class_map: Class of each output, as the user lists it; None if not.

    Raises:
        DataError: Names of outputs and classes differ, or nothing says what a label stands for.
    """
    notes: list[str] = []
    if names is None:
        if class_map is not None:
            numbers = [c for c in class_map if c is not None]
            names = _numbered(1 + max([*numbers, _largest(labels)], default=0))
        else:
            names = _names_from(members, labels, notes)
    if len(names) < 2:
        raise DataError(
            f"there is {len(names)} class; expected at least 2, or nothing is an error."
        )
    if class_map is not None:
        _check_width(members, class_map)
        notes.append("outputs are the classes that the class map says, whatever their names")
        return Classes(tuple(names), (class_map,) * len(members), tuple(notes))
    maps = [_map(member, names, labels, notes) for member in members]
    return Classes(tuple(names), tuple(maps), tuple(dict.fromkeys(notes)))


def _check_width(members: Sequence[ImportedPredictions], class_map: ClassMap) -> None:
    for member in members:
        outputs = _width(member)
        if outputs > len(class_map) or (member.top is None and outputs < len(class_map)):
            raise DataError(
                f"{member.name} has {outputs} outputs, and the class map lists {len(class_map)}; expected "
                "one entry for each output."
            )


def _width(member: ImportedPredictions) -> int:
    return member.scores.shape[1] if member.top is None else int(member.top.max(initial=-1)) + 1


def _largest(labels: Sequence[Labels]) -> int:
    return max(
        (int(part.values.max()) for part in labels if part.values.dtype.kind == "i"), default=-1
    )


def _numbered(count: int) -> tuple[str, ...]:
    if count > MAX_CLASSES:
        raise DataError(
            f"a class has the number {count - 1}; expected less than {MAX_CLASSES:,}. Is it an id? Give "
            "--classes FILE with the names of all classes."
        )
    return tuple(str(number) for number in range(count))


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names)


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if length is None else first[:length]


def strip_common(names: Sequence[str]) -> tuple[str, ...]:
    """Take off what all names begin with up to a separator or a number, as `prob_` of prob_cat, prob_dog."""
    start = _common_start(names)
    for separators in ("_-. :", ""):
        cut = max((start.rfind(s) + 1 for s in separators), default=0)
        if not separators:
            cut = len(start.rstrip("0123456789"))
        stripped = tuple(name[cut:] for name in names)
        if cut and all(stripped) and (separators or _are_numbers(stripped)):
            return stripped
    return tuple(names)


def _names_from(
    members: Sequence[ImportedPredictions], labels: Sequence[Labels], notes: list[str]
) -> tuple[str, ...]:
    """Name the classes after the outputs, or number them."""
    texts = sorted(
        {str(v) for p in labels if p.values.dtype.kind == "U" for v in np.unique(p.values)}
    )
    named = [member for member in members if member.outputs is not None]
    if not named:
        if texts:
            raise DataError(
                f"labels are names ({list_names(texts)}), and nothing says which "
                "output is which. Give --classes FILE.json, a JSON list of the names in the order of the "
                "outputs."
            )
        dense = [member.scores.shape[1] for member in members if member.top is None]
        if len(set(dense)) > 1:
            widths = ", ".join(f"{m.name} {m.scores.shape[1]}" for m in members if m.top is None)
            raise DataError(
                f"members have different numbers of outputs: {widths}. Expected one for each class in "
                "all of them. Leave out what is no prediction (FILE.npz:ARRAY takes one array), or give "
                "--class-map FILE.json."
            )
        return _numbered(dense[0] if dense else max(1 + _largest(labels), *map(_width, members)))
    first = named[0].outputs or ()
    stripped = strip_common(first)
    if _are_numbers(stripped):
        numbers = {
            int(n) for m in named for n in strip_common(m.outputs or ()) if _are_numbers([n])
        }
        if numbers == set(range(1, len(numbers) + 1)):
            return tuple(str(number) for number in sorted(numbers))
        return _numbered(1 + max(numbers))
    names = stripped if texts and set(texts) <= set(stripped) - set(first) else first
    is_placed = len(named) < len(members) or any(p.values.dtype.kind != "U" for p in labels)
    orders = {member.outputs for member in named}
    if is_placed and (len(orders) > 1 or list(names) != sorted(names, key=str.lower)):
        raise DataError(
            f"the columns are called {list_names(names)}, and labels or other "
            "files have classes by number: nothing says which name has which number. Give --classes "
            "FILE.json, a JSON list of the names from class 0 on."
        )
    if is_placed:
        notes.append(f"class 0 is {names[0]!r:.80}, as the order of the columns says")
    return tuple(names)


def _map(
    member: ImportedPredictions, names: Sequence[str], labels: Sequence[Labels], notes: list[str]
) -> ClassMap:
    if member.outputs is None:
        return _by_place(member, len(names), labels)
    index = {name: number for number, name in enumerate(names)}
    for outputs in dict.fromkeys((member.outputs, strip_common(member.outputs))):
        known = [name for name in outputs if name in index]
        if len(set(outputs)) != len(outputs):
            continue
        if len(known) == len(outputs) or len(known) == len(names):
            _say_rest(member, outputs, names, notes)
            return tuple(index.get(name) for name in outputs)
    outputs = strip_common(member.outputs)
    numbers = sorted(int(name) for name in outputs) if _are_numbers(outputs) else []
    for first in (0, 1):
        if numbers == list(range(first, first + len(names))):
            if first:
                notes.append(f"{member.name}: the outputs are numbered from 1 to {len(names)}")
            return tuple(int(name) - first for name in outputs)
    strangers = [name for name in member.outputs if name not in index]
    lacking = [name for name in names if name not in member.outputs]
    raise DataError(
        f"{member.name}: {len(strangers)} of {len(outputs)} outputs are called as no class is, such as "
        f"{strangers[0]!r:.80}, and {len(lacking)} of {len(names)} classes have no output, such as "
        f"{lacking[0]!r:.80}. Make the names the same, or give --class-map FILE.json."
    )


def _by_place(member: ImportedPredictions, count: int, labels: Sequence[Labels]) -> ClassMap:
    outputs = _width(member)
    if outputs == count or (member.top is not None and outputs <= count):
        return tuple(range(max(count, outputs)))
    rows = len(member.scores)
    hint = ""
    if outputs in {len(part.values) for part in labels}:
        hint = "Is the array [class, image]? Save it transposed. "
    raise DataError(
        f"{member.name} has {rows} images and {outputs} outputs; expected {count} outputs. {hint}Remove "
        "columns that are no class, or give --class-map FILE.json, a JSON list with the class of each "
        "output and null for none."
    )


def _say_rest(
    member: ImportedPredictions, outputs: Sequence[str], names: Sequence[str], notes: list[str]
) -> None:
    if strangers := [name for name in outputs if name not in names]:
        notes.append(
            f"{member.name}: ignored the outputs {list_names(strangers)}, which name no class"
        )
    if lacking := [name for name in names if name not in outputs]:
        notes.append(
            f"{member.name}: has no output for the classes {list_names(lacking)}; they get 0"
        )
    if list(outputs) != list(names):
        notes.append(f"{member.name}: outputs were matched with classes by their names")
