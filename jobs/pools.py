"""Pools of members: those that come with the project, and those in a user's YAML file. Imports no torch."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from ensemble.checkpoints.shard_index import fetch_shards, is_index
from ensemble.config import S3_SCHEME, Config, load
from ensemble.errors import UnknownNameError
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import CheckpointSource
from ensemble.storage.fetch import fetch
from ensemble.storage.settings import S3Config
from ensemble.views.settings import Views

SomeSource = TypeVar("SomeSource", bound=Config)

_SHIPPED = Path(__file__).parent / "configs" / "pools"


class PoolConfig(Config):
    """A pool: members that classify the same classes, for any images of these."""

    views: Views | None = None
    """Test-time views of members that do not set their own; the run's if not set."""
    members: Annotated[tuple[MemberConfig, ...], Field(min_length=1)]
    """The members of the pool."""


def load_pool(name: str) -> tuple[MemberConfig, ...]:
    """Read the members of a pool, each with its views.

    Args:
        name: Name of a pool that comes with the project, or the path of a YAML file.

    Raises:
        ConfigError: There is no pool of that name, or a setting in it is wrong.
    """
    pool = load(PoolConfig, _path(name), name=name)
    return tuple(
        member.model_copy(update={"views": member.views or pool.views}) for member in pool.members
    )


def fetched(member: MemberConfig, storage: S3Config, cache: Path) -> MemberConfig:
    """Fetch a member's checkpoint from S3, and point the member to the copy on this machine.

    Args:
        member: The member; one without a checkpoint at s3:// stays as it is.
        storage: How S3 is reached.
        cache: The folder that runs share; copies are kept in it.

    Raises:
        CheckpointError: The object is missing, or its copy cannot be written.
        ConfigError: The bucket is missing, or refuses access.
    """
    return member.model_copy(update={"source": fetched_source(member.source, storage, cache)})


def fetched_source(source: SomeSource, storage: S3Config, cache: Path) -> SomeSource:
    """Fetch the file of a source from S3, and point the source to the copy on this machine.

    Args:
        source: The source; one without a checkpoint at s3:// stays as it is.
        storage: How S3 is reached.
        cache: The folder that runs share; copies are kept in it.

    Raises:
        CheckpointError: The object is missing, or its copy cannot be written.
        ConfigError: The bucket is missing, or refuses access.
    """
    if not isinstance(source, CheckpointSource):
        return source
    path = fetch(source.path, storage, cache / "fetched")
    if source.path.startswith(S3_SCHEME) and is_index(path):
        path = fetch_shards(source.path, path, lambda place: fetch(place, storage, path.parent))
    return source.model_copy(update={"path": str(path)})


def _path(name: str) -> Path:
    shipped = {path.stem: path for path in _SHIPPED.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        raise UnknownNameError.of("pool", name, [*shipped, "a path that ends in .yaml"])
    return Path(name)
