"""The metadata of a checkpoint, read without its weights and without torch."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import safetensors

from ensemble.checkpoints.first_bytes import read_first_bytes, tell_other_content
from ensemble.errors import CheckpointError
from ensemble.images.shard import BadImage

FORMAT_VERSION = 1
HEADER_KEY = "ensemble_checkpoint"

# The digest is of the whole file with zeros in the place of the digest. It lies in JSON inside JSON.
_DIGEST, _DIGEST_CHARS = "sha256", 64
_DIGEST_MARK = b'\\"sha256\\": \\"'
_NO_DIGEST = b"0" * _DIGEST_CHARS
_LENGTH_BYTES, _LARGEST_HEADER_BYTES, _READ_BYTES = 8, 100_000_000, 1 << 20


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
        if path.is_file() and (what := tell_other_content(read_first_bytes(path))) is not None:
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
        unknown = content.keys() - {"format_version", "metadata", _DIGEST}
        if unknown and version == FORMAT_VERSION:  # as where a bit of a key is damaged
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def check_digest(path: Path) -> None:
    """Refuse a checkpoint whose bytes are not those that were written; older ones have no digest.

    Raises:
        CheckpointError: The file cannot be read, or its bytes changed since it was written.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES)
            header = start + file.read(min(_length(start), _LARGEST_HEADER_BYTES))
            place = header.rfind(_DIGEST_MARK) + len(_DIGEST_MARK)
            if place < len(_DIGEST_MARK):
                return
            expected = header[place : place + _DIGEST_CHARS]
            digest = sha256(header[:place] + _NO_DIGEST + header[place + _DIGEST_CHARS :])
            while part := file.read(_READ_BYTES):
                digest.update(part)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}). "
            "Check the path, or train the member again."
        ) from error
    if digest.hexdigest().encode() != expected:
        raise CheckpointError(
            f"{path} is damaged: its bytes have the sha256 {digest.hexdigest()[:16]}…, and "
            f"{expected[:16].decode(errors='replace')}… was written. Remove it, so that it is made again, or "
            "copy it again."
        )


def is_whole(path: Path) -> bool:
    """Tell whether a checkpoint can be read and its bytes are those that were written."""
    try:
        check_digest(path)
        read_metadata(path)
    except CheckpointError:
        return False
    return True


def with_digest(content: bytes) -> tuple[bytes, memoryview]:
    """Put the digest of a checkpoint's bytes into its header.

    Args:
        content: A safetensors file whose header was made by `make_header`.

    Returns:
        The header and the rest of the file, which is not copied.
    """
    header = content[: _LENGTH_BYTES + _length(content)]
    rest = memoryview(content)[len(header) :]
    digest = sha256(header)
    digest.update(rest)
    place = header.rindex(_DIGEST_MARK) + len(_DIGEST_MARK)
    return header[:place] + digest.hexdigest().encode() + header[place + _DIGEST_CHARS :], rest


def make_header(metadata: Mapping[str, str]) -> dict[str, str]:
    """Make the header of a checkpoint, with room for its digest; equal metadata gives an equal header."""
    # One key with sorted JSON, because safetensors does not fix the order of header keys.
    content = {
        "format_version": FORMAT_VERSION,
        "metadata": dict(metadata),
        _DIGEST: _NO_DIGEST.decode(),
    }
    return {HEADER_KEY: json.dumps(content, sort_keys=True)}


def _length(start: bytes) -> int:
    return int.from_bytes(start[:_LENGTH_BYTES], "little")


def checkpoint_name(architecture: str, key: str) -> str:
    """Name the file of weights that are kept by content."""
    return f"{re.sub('[/:,=]', '-', architecture)}-{key[:24]}.safetensors"
