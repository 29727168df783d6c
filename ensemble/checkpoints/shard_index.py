"""The index of a checkpoint in shards: which file each tensor is in. Imports no torch."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from ensemble.checkpoints.first_bytes import read_first_bytes
from ensemble.errors import CheckpointError
from ensemble.files import make_folder

# A header of safetensors begins with its length in eight bytes, and then a JSON object.
LENGTH_BYTES = 8
_LARGEST_INDEX_BYTES = 1 << 26


def is_index(path: Path) -> bool:
    """Tell by its first bytes whether a file is an index of shards, or other JSON."""
    try:
        start = read_first_bytes(path)
    except OSError:
        return False  # whoever reads it says why it cannot be read
    # A header of safetensors may have a length that begins like this, but its last bytes are zero.
    return start.lstrip().startswith(b"{") and b"\0" not in start[:LENGTH_BYTES]


def read_index(path: Path) -> dict[str, str]:
    """Read an index: the name of the file beside it that each tensor is in.

    Raises:
        CheckpointError: The file is no index, or names something else than files beside it.
    """
    try:
        if path.stat().st_size > _LARGEST_INDEX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes are too many for an index")
        content = json.loads(path.read_bytes())
        shards = {str(name): str(file) for name, file in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights: it is JSON, and not the index of a checkpoint in "
            f"shards ({type(error).__name__}: {error}). Give the .safetensors or .pth file."
        ) from error
    for file in sorted(set(shards.values())):
        if Path(file).name != file or file in ("", ".", ".."):
            raise CheckpointError(
                f"{path} names the shard {file!r}; expected the name of a file beside it."
            )
    if not shards:
        raise CheckpointError(f"{path} is the index of a checkpoint without any tensor.")
    return shards


def fetch_shards(place: str, index: Path, fetch: Callable[[str], Path]) -> Path:
    """Fetch the shards of an index that was fetched, and lay all of them into one folder, by their names.

    Args:
        place: Where the index came from: s3://bucket/key.
        index: The copy of the index.
        fetch: Fetches a place; its copies lie beside that of the index.

    Returns:
        The index among its shards, in a folder of these very copies.

    Raises:
        CheckpointError: The index is damaged, or a shard cannot be fetched or kept.
    """
    prefix, _, name = place.rpartition("/")
    copies = {name: index}
    copies |= {file: fetch(f"{prefix}/{file}") for file in sorted(set(read_index(index).values()))}
    digest = sha256("\0".join(f"{file}\0{copy.name}" for file, copy in copies.items()).encode())
    folder = index.parent / f"{digest.hexdigest()[:16]}-shards"
    make_folder(folder)
    for file, copy in copies.items():
        link = folder / file
        if not link.is_symlink():
            try:
                os.symlink(f"../{copy.name}", link)
            except FileExistsError:
                continue  # another run has laid it, too
            except OSError as error:
                raise CheckpointError(
                    f"cannot lay {copy} into {folder}: {error.strerror}. Copy the index and its shards to "
                    "this machine, and give the path of the index."
                ) from error
    return folder / name
