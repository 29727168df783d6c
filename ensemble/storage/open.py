"""ensemble / storage / open: say here what this file is responsible for."""

from pathlib import Path

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.storage.store import Store


def open_store(place: str | Path, config: S3Config) -> Store:
    """The store at a place; nothing is read or written yet.

    Raises:
        ConfigError: The place can be neither a folder nor s3://bucket/prefix.
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
