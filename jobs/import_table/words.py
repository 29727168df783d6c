"""The words of `ensemble table import`: FILE, NAME=FILE and FILE.npz:ARRAY, and the names of members."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble.errors import ConfigError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.contents import ImportedFile

MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ARRAY = re.compile(r"(.+\.npz):([^/]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Word:
    """A file as the command names it.

    Attributes:
        path: The file.
        member: Name for its member; None if the file's own name serves.
        array: Name of the array that is taken; None for all.
    """

    path: Path
    member: str | None = None
    array: str | None = None


def expand_home(place: Path | str) -> Path | str:
    """Put the home folder for a ~ that the shell left in a word, as in NAME=~/FILE.

    Raises:
        ConfigError: There is no such home folder.
    """
    if not str(place).startswith("~"):
        return place
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot find the home folder of {str(place)!r}: {error}") from error


def read_word(word: str) -> Word:
    """Read FILE, NAME=FILE, or FILE.npz:ARRAY; a file that is really called so comes first.

    Raises:
        ConfigError: The name is none for a member, or no file is named.
    """
    if Path(expand_home(word)).exists():
        return Word(Path(expand_home(word)))
    name, equals, rest = word.partition("=")
    has_name = bool(equals) and "/" not in name and not name.startswith("~")
    text = rest if has_name else word
    if has_name and not MEMBER_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} of {word!r} is no name of a member; expected letters, digits, '_', '.' and '-', as in "
            "resnet-1=FILE."
        )
    path, array = Path(expand_home(text)), None
    if not path.exists() and (match := _ARRAY.fullmatch(text)):
        path, array = Path(expand_home(match[1])), match[2]
    if not text:
        raise ConfigError(f"{word!r} names no file; expected NAME=FILE, as in resnet-1=preds.npy.")
    return Word(path, name if has_name else None, array)


def name_members(
    words: Sequence[Word], files: Sequence[ImportedFile]
) -> tuple[list[ImportedPredictions], list[str]]:
    """Give every member a name of its own, and tell which are not those in the files.

    Raises:
        ConfigError: Two members would have one name.
    """
    pairs = [
        (word, member) for word, file in zip(words, files, strict=True) for member in file.members
    ]
    counts = [len(file.members) for file in files for _ in file.members]
    names = [member.name for _, member in pairs]
    called = []
    for (word, member), count in zip(pairs, counts, strict=True):
        name = member.name
        if word.member is not None:
            name = word.member if count == 1 else f"{word.member}.{name}"
        elif names.count(name) > 1:
            own = "" if name == word.path.stem else f".{name}"
            folders = [p for p in word.path.absolute().parts[1:-1]]
            name = f"{word.path.stem}{own}"
            if _is_shared(word, pairs):
                name = f"{_distinct_folder(word, pairs, folders)}.{name}"
        called.append(_clean(name))
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        paths = [
            str(word.path)
            for (word, _), name in zip(pairs, called, strict=True)
            if name == twice[0]
        ]
        raise ConfigError(
            f"the member {twice[0]!r} stands twice, in {' and '.join(dict.fromkeys(paths))}. Give each a "
            f"name of its own: NAME={paths[-1]}."
        )
    notes = [
        f"{word.path}: {member.name!r} is called {name!r}"
        for (word, member), name in zip(pairs, called, strict=True)
        if name not in (member.name, word.member)
    ]
    return [replace(m, name=name) for (_, m), name in zip(pairs, called, strict=True)], notes


def _is_shared(word: Word, pairs: Sequence[tuple[Word, ImportedPredictions]]) -> bool:
    return (
        len({other.path.absolute() for other, _ in pairs if other.path.stem == word.path.stem}) > 1
    )


def _distinct_folder(
    word: Word, pairs: Sequence[tuple[Word, ImportedPredictions]], folders: Sequence[str]
) -> str:
    """Find the folder, from the file upwards, that tells files of one name apart."""
    others = [o.path.absolute().parts[1:-1] for o, _ in pairs if o.path.stem == word.path.stem]
    for depth in range(1, len(folders) + 1):
        at_depth = {parts[-depth] if depth <= len(parts) else "" for parts in others}
        if len(at_depth) == len(set(others)):
            return folders[-depth]
    return "-".join(folders[-2:])


def _clean(name: str) -> str:
    """Make a name of a member from any text."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")
    return (text or "member")[:64]
