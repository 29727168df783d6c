"""What a file is by its first bytes, where it is not the weights that its name promises."""

from pathlib import Path

_NUM_BYTES = 512

# First bytes of files that stand where weights should, and what to do about each.
_KNOWN = (
    (
        b"version https://git-lfs",
        "is a pointer of git-lfs, which stands for the file and is not the file. Run `git lfs pull` in "
        "its repository",
    ),
    (b"\x89HDF", "is an HDF5 file, as Keras writes it. Give the weights of a torch network"),
    (
        b"\x93NUMPY",
        "is a NumPy array. Give a state_dict, or import predictions by `ensemble table import`",
    ),
    (b"GGUF", "is a GGUF file of a language model. Give the weights of an image classifier"),
    (b"PAR1", "is a Parquet file. Give weights, or import predictions by `ensemble table import`"),
    (b"\x1f\x8b", "is compressed by gzip. Unpack it, and give the file inside"),
    (
        b"<?xml",
        "is an XML document, as a store sends it in place of a file. Download the file again",
    ),
)
_PAGES = (b"<!doctype", b"<html", b"<head")


def read_first_bytes(path: Path) -> bytes:
    """Read as many bytes of a file as tell what it is.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(_NUM_BYTES)


def tell_other_content(content: bytes) -> str | None:
    """Tell by the first bytes what a file is and what to do, if it cannot be weights.

    Args:
        content: The first bytes of the file, or all of them.

    Returns:
        A sentence without its subject, as `is a web page. Download the file itself`; None where the
        bytes are not known to be anything else than weights.
    """
    if not content:
        return "is empty. Copy or download it again"
    start = content[:_NUM_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.lower().startswith(_PAGES):
        return (
            "is a web page. Download the file itself; on the Hugging Face hub its address has /resolve/ "
            "where that of the page has /blob/"
        )
    return next((what for first, what in _KNOWN if start.startswith(first)), None)
