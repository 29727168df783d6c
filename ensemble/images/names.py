"""Names of image files: how a name becomes an id that any file can hold, and which names nobody means."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

# Left by other systems in folders that a person copies; compared in lower case.
_LEFTOVERS = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
_ESCAPED_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder is hidden, or was left by another system, as .DS_Store and Thumbs.db."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def has_leftover(parts: Iterable[str]) -> bool:
    """Tell whether any part of a path is hidden or was left by another system."""
    return any(is_leftover(part) for part in parts)


def to_text(path: str | Path) -> str:
    r"""Give a path as text that JSON, Arrow and a terminal can hold; a byte that is not UTF-8 becomes \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def to_path(root: Path, image_id: str) -> Path:
    """Give the path below a folder that an id of `to_text` stands for."""
    literal = root / image_id
    if "\\x" not in image_id or os.path.lexists(literal):
        return literal
    raw = _ESCAPED_BYTE.sub(lambda byte: bytes([int(byte[1], 16)]), os.fsencode(image_id))
    return root / os.fsdecode(raw)
