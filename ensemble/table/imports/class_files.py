"""Files that name classes or map outputs onto them, as a user gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble.errors import ConfigError, DataError
from ensemble.table.imports.tables import decode_text, read_json

ClassMap = tuple[int | None, ...]


# ImageNet-21k has 21,841; more are not class numbers but ids.
MAX_CLASSES = 100_000


def read_classes(path: Path) -> tuple[str, ...]:
    """Read names of classes: a JSON list, a JSON object of names and numbers, or a text of a name a line.

    Raises:
        ConfigError: The file cannot be read, or a name is empty or stands twice.
    """
    if path.suffix.lower() == ".json":
        names = _names_of(path, read_json(path, "a JSON list of class names"))
    else:
        try:
            lines = decode_text(path).splitlines()
        except DataError as error:
            raise ConfigError(f"{error} Expected a JSON list of class names.") from error
        names = [line.strip() for line in lines if line.strip()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"{path} has the class {twice[0]!r:.80} twice; expected names that differ."
        )
    for name in names:
        check_name(name, f"the class {name!r:.80} of {path}")
    if len(names) < 2:
        raise ConfigError(f"{path} names {len(names)} classes; expected at least 2.")
    return tuple(names)


def _names_of(path: Path, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        # {"ant": 0, …} as Keras writes it, or {"0": "ant", …} as the Hugging Face hub does.
        pairs = value.items()
        by_index = {v: k for k, v in pairs if isinstance(v, int) and not isinstance(v, bool)}
        if not by_index:
            by_index = {int(k): v for k, v in pairs if k.isdecimal() and isinstance(v, str)}
        if len(by_index) == len(value) and sorted(by_index) == list(range(len(value))):
            return [by_index[index].strip() for index in range(len(value))]
        raise ConfigError(
            f"{path} does not number its classes from 0 to {len(value) - 1}; expected a JSON list of class "
            "names."
        )
    if not isinstance(value, list):
        raise ConfigError(f"{path} holds {type(value).__name__}; expected a JSON list.")
    for name in value:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise ConfigError(f"{path} names a class {name!r:.80}; expected text.")
    return [str(name).strip() for name in value]


def check_name(text: str, what: str) -> None:
    """Refuse names that cannot be shown or stored.

    Raises:
        DataError: The name is empty, or holds a control character or half of a character.
    """
    if not text or any(
        ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text
    ):
        raise DataError(f"{what} is empty or holds a control character; expected plain text.")


def read_class_map(path: Path, names: Sequence[str] | None) -> ClassMap:
    """Read a JSON list with the class of each output, by number or name, null for none.

    Raises:
        ConfigError: The file cannot be read, or a class stands twice or is none.
    """
    value = read_json(path, "a JSON list")
    if not isinstance(value, list):
        raise ConfigError(f"{path} holds {type(value).__name__}; expected a JSON list.")
    by_name = {name: index for index, name in enumerate(names or ())}
    class_map = [by_name.get(c, c) if isinstance(c, str) else c for c in value]
    used = [c for c in class_map if c is not None]
    limit = len(names) if names else MAX_CLASSES
    is_right = all(isinstance(c, int) and not isinstance(c, bool) and 0 <= c < limit for c in used)
    if not is_right or len(set(used)) != len(used):
        count = f"{len(names)} classes" if names else "the classes"
        raise ConfigError(
            f"the class map {str(path)!r} must list, for each output, one of {count} or null, and no "
            "class twice."
        )
    return tuple(None if c is None else int(c) for c in class_map)
