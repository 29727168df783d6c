"""NumPy files, `.npy` and `.npz`, read with suspicion: no pickles, one kind of error."""

import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ensemble.config import S3_SCHEME
from ensemble.errors import DataError

# What NumPy and zipfile raise on bytes that are not theirs.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
)
_LARGEST_CHARACTER = 0x10FFFF


def check_is_file(path: Path, content: str) -> None:
    """Refuse what is no file before it is opened: a pipe would never end.

    Args:
        path: The file.
        content: What it should hold, for the message.

    Raises:
        DataError: Nothing is there, or something else.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no file" if path.exists() else "is not there"
        # A path has no double slash: what was typed is s3://bucket/key.
        is_remote = path.parts[:1] == (S3_SCHEME.removesuffix("//"),)
        hint = (
            "Expected a file of this machine; copy it here first"
            if is_remote
            else "Expected a file"
        )
        raise DataError(f"cannot read {content} from {path}: it {kind}. {hint}.")


def read_arrays(path: Path) -> dict[str, np.ndarray] | np.ndarray:
    """Read the array of a `.npy`, or the arrays of an `.npz` by name; the content counts, not the suffix.

    Raises:
        DataError: The file cannot be read, or needs a pickle.
    """
    try:
        # The warnings are of headers that NumPy wrote on Python 2.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                return _checked(file, str(path))
            with file:
                names = list(file)
                if twice := sorted({name for name in names if names.count(name) > 1}):
                    raise ValueError(f"the array {twice[0]!r:.80} stands twice")
                return {name: _checked(file[name], f"{path}: {name!r:.80}") for name in names}
    except _UNREADABLE as error:
        hint = ""
        if "allow_pickle" in str(error):
            hint = (
                " Objects are pickled, which may run code; save text as np.array(names, dtype=str)."
            )
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}.{hint}") from error


def _checked(array: np.ndarray, where: str) -> np.ndarray:
    """Give plain numbers or text; a member of an archive that is no array is bytes."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"{where} is no array of NumPy; expected files that np.savez wrote.")
    if array.dtype.kind == "S":
        return np.array([text.decode() for text in array.ravel().tolist()], np.str_).reshape(
            array.shape
        )
    if array.dtype.kind == "U":
        if array.size and array.dtype.itemsize:
            codes = np.frombuffer(
                np.ascontiguousarray(array).tobytes(),
                array.dtype.byteorder.replace("|", "=") + "u4",
            )
            if codes.max() > _LARGEST_CHARACTER or ((codes >= 0xD800) & (codes < 0xE000)).any():
                raise DataError(f"{where} holds text that is not Unicode. Write it anew.")
        return array.astype(np.str_)
    return array
