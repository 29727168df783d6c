"""SHA256SUMS of an artifact: the digest of every file, in the form that `sha256sum -c` reads."""

import re
from collections.abc import Mapping
from pathlib import Path

from ensemble.errors import CheckpointError
from ensemble.files import sha256_of

FILE_NAME = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_sums(folder: Path) -> None:
    """Write the digests of all files of an artifact into it.

    Raises:
        OSError: A file cannot be read, or the disk is full.
    """
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in _files_in(folder)]
    (folder / FILE_NAME).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> Mapping[str, str]:
    """Read the digest of each file by its name; empty where there is no list, as before version 4.

    Raises:
        CheckpointError: The list cannot be read, or names a file outside the folder.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        sums = {}
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None or "\0" in line:
                raise ValueError(f"the line {line!r} is no digest and name")
            if not (folder / match[2]).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"it names {match[2]!r}, outside its folder")
            sums[match[2]] = match[1]
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}. Copy the artifact again."
        ) from error
    return sums


def check_sums(folder: Path) -> tuple[str, ...]:
    """Hash every file of an artifact again.

    Returns:
        A sentence for each file that is missing, changed, or of nobody's.

    Raises:
        CheckpointError: The list of digests cannot be read, or a file cannot be read now.
    """
    sums, there = read_sums(folder), set(_files_in(folder))
    problems = [f"{name} is missing." for name in sums if name not in there]
    for name in sorted(there & sums.keys()):
        try:
            digest = sha256_of(folder / name)
        except OSError as error:
            raise CheckpointError(f"cannot read {folder / name}: {error.strerror}.") from error
        if digest != sums[name]:
            problems.append(
                f"{name} was changed: its sha256 is {digest[:16]}…, expected {sums[name][:16]}…."
            )
    problems += [f"{name} is not in {FILE_NAME}." for name in sorted(there - sums.keys())]
    return tuple(problems) if sums else ()


def _files_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).as_posix() != FILE_NAME
    )
