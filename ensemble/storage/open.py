"""The store at a place: a folder, or a prefix of an S3 bucket."""

from pathlib import Path

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.storage.store import Store


def open_store(place: str | Path, config: S3Config) -> Store:
    """Open the store at a place; nothing is read or written yet.

    Args:
        place: A folder, or s3://bucket/prefix.
        config: How S3 is reached.

    Raises:
        ConfigError: The place is neither a folder nor s3://bucket/prefix.
    """
    text = str(place)
    if text.startswith(S3_SCHEME):
        from ensemble.storage.s3_store import S3Store

        return S3Store(text, config)
    if "://" in text or text.startswith("s3:"):
        raise ConfigError(
            f"cannot keep a table at {text!r}; expected a folder or s3://bucket/prefix."
        )
    if Path(text).is_file():
        raise ConfigError(f"{text!r} is a file; expected a folder or s3://bucket/prefix.")
    return LocalStore(Path(text))
