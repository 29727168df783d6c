"""Settings of storage: how S3 is reached, and where runs and tables are kept."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from ensemble.config import Config


class S3Config(Config):
    """How S3 is reached. Keys come from the environment or an instance role, never from here."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/@]+/?$")] | None = None
    """URL of an S3-compatible store, as http://host:port; AWS if not set."""
    region: str | None = None
    """Region of the store; that of the profile if not set."""
    profile: str | None = None
    """Name of a profile in the AWS configuration files."""
    anonymous: bool = False
    """Read public data without keys."""
    checksums: Literal["when_supported", "when_required"] = "when_supported"
    """Whether requests carry checksums; many stores that are not of AWS need when_required."""
    attempts: PositiveInt = 10
    """Tries of each request to the store before the run gives up."""


class StorageConfig(S3Config):
    """Where runs and tables are kept, and how everything at s3:// is reached."""

    runs: Annotated[str, Field(pattern=r"^s3://[^/?#@:]+(/[^?#@:]*)?$")] | None = None
    """The s3://bucket/prefix that gets a folder for each run: config, table, artifact and report."""
    tables: Annotated[str, Field(pattern=r"^([^:]*|s3://[^/?#@:]+(/[^?#@:]*)?)$")] | None = None
    """A folder or s3://bucket/prefix that gets a table for each run; beside the run's files if not set."""
    single_writer: bool = False
    """Accept a store that cannot refuse to overwrite. No lease is held, so see to it that only one run at a
    time writes a table."""
