"""The metadata of a checkpoint, read without its weights and without torch."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors

from ensemble.checkpoints.first_bytes import read_first_bytes, tell_other_content
from ensemble.errors import CheckpointError
from ensemble.images.shard import BadImage

FORMAT_VERSION = 1
HEADER_KEY = "ensemble_checkpoint"


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata that `checkpoints.file.save` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or not written by this project.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return parse(path, file.metadata() or {})
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}). "
            "Check the path, or train the member again."
        ) from error
    except safetensors.SafetensorError as error:
        if (what := tell_other_content(read_first_bytes(path))) is not None:
            raise CheckpointError(f"{path}: cannot be read as weights: it {what}.") from error
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes that are not a whole safetensors file ({error}). "
            "The file is truncated or of another format: copy it again or train the member again."
        ) from error


def read_bad_images(path: Path) -> tuple[BadImage, ...]:
    """Read which training images could not be decoded, and why."""
    return tuple(
        BadImage(*pair) for pair in json.loads(read_metadata(path).get("bad_images", "[]"))
    )


def read_notes(path: Path) -> tuple[str, ...]:
    """Read what a person should know of how the weights were imported; nothing where all was as usual."""
    return tuple(json.loads(read_metadata(path).get("notes", "[]")))


def parse(path: Path, header: Mapping[str, str]) -> dict[str, str]:
    """Parse the metadata in a safetensors header.

    Raises:
        CheckpointError: The header was not written by this project, or has another format version.
    """
    try:
        content = json.loads(header[HEADER_KEY])
        version, metadata = content["format_version"], dict(content["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the header has the keys {sorted(header)}, and no readable {HEADER_KEY!r}. "
            "Give a checkpoint that this project wrote."
        ) from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version}, but this program reads version {FORMAT_VERSION}. "
            "Use the program that wrote it, or train the member again."
        )
    return metadata


def checkpoint_name(architecture: str, key: str) -> str:
    """Name the file of weights that are kept by content."""
    return f"{re.sub('[/:]', '-', architecture)}-{key[:24]}.safetensors"
