"""The output of a network that stands for each class of the data."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ensemble.errors import ConfigError
from ensemble.files import read_text

# Outputs of a network of ImageNet with a background class. A difference of one elsewhere is a class
# that the images lack, which may be any.
_WITH_BACKGROUND = 1001

_WNID = re.compile(r"^(n\d{8})[\s,:]+(.*)$")


def output_rows(
    member: str,
    label_map: Literal["background_first"] | Path | None,
    num_outputs: int,
    classes: Sequence[str],
) -> tuple[int, ...]:
    """Find the output that stands for each class of the data.

    Args:
        member: Name of the member, for messages.
        label_map: The setting `MemberConfig.label_map`.
        num_outputs: Number of outputs of the network.
        classes: Names of the data's classes.

    Raises:
        ConfigError: The numbers of outputs and classes differ, or a class means no output or two.
    """
    if isinstance(label_map, Path):
        return _by_name(member, label_map, num_outputs, classes)
    first = 1 if label_map == "background_first" else 0
    if num_outputs - first != len(classes):
        raise ConfigError(
            f"the member {member!r} has {num_outputs} outputs"
            f"{', of which the first is dropped' if first else ''}, and the images have {len(classes)} "
            f"classes. Expected one for each. {_advice(num_outputs, len(classes), bool(first))}"
        )
    return tuple(range(first, num_outputs))


def _advice(num_outputs: int, num_classes: int, is_dropped: bool) -> str:
    by_name = (
        "Write what each output stands for, by name, on a line of a text file and set label_map to its "
        "path, or give weights of the same classes."
    )
    if num_outputs == _WITH_BACKGROUND == num_classes + 1 and not is_dropped:
        return (
            "If its first output is a background class, as in TensorFlow's networks of ImageNet, set "
            f"label_map: background_first. Otherwise: {by_name}"
        )
    return by_name


def _by_name(member: str, path: Path, num_outputs: int, classes: Sequence[str]) -> tuple[int, ...]:
    try:
        lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"cannot read the label map {str(path)!r} of {member!r}: {error}. Expected a text file "
            "with the wnid or name of each output on a line of its own."
        ) from error
    if len(lines) != num_outputs:
        raise ConfigError(
            f"the label map {path} of {member!r} has {len(lines)} lines, and the network has "
            f"{num_outputs} outputs. Expected a line for each output, in their order."
        )
    outputs: dict[str, set[int]] = defaultdict(set)
    for output, line in enumerate(lines):
        for key in _keys(line):
            outputs[key].add(output)
    return tuple(_find(member, path, name, outputs) for name in classes)


def _find(member: str, path: Path, name: str, outputs: dict[str, set[int]]) -> int:
    # The strictest key that is known decides: crane the bird and crane the machine share a name.
    outputs_of_class = next((outputs[key] for key in _keys(name) if key in outputs), set())
    if len(outputs_of_class) != 1:
        what = (
            f"means the outputs {sorted(outputs_of_class)}"
            if outputs_of_class
            else "is none of the outputs"
        )
        raise ConfigError(
            f"the class {name!r} of the images {what} of {member!r} by {path}. Expected exactly one; "
            "name the classes by wnid (n01440764), or as the file does."
        )
    return outputs_of_class.pop()


def _keys(text: str) -> list[str]:
    """List the keys of a class, strictest first: its line, its wnid, its names, its first name."""
    text = text.strip().lower().replace("_", " ")
    match = _WNID.match(text)
    names = match[2].strip() if match else text
    keys = [text, *([match[1]] if match else []), names, names.split(",")[0].strip()]
    return list(dict.fromkeys(key for key in keys if key))
