"""Pools of members: those that come with the project, and a user's. No torch."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ensemble.config import Config, load
from ensemble.errors import UnknownNameError
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import CheckpointSource
from ensemble.storage.fetch import fetch
from ensemble.storage.settings import S3Config
from ensemble.views.settings import Views

_SHIPPED = Path(__file__).parent / "configs" / "pools"


class PoolConfig(Config):
    """Members that belong together, for any images of their classes."""

    views: Views | None = None
    """Test-time views of members that do not set their own; the run's if not set."""
    members: Annotated[tuple[MemberConfig, ...], Field(min_length=1)]
    """The members."""


def load_pool(name: str) -> tuple[MemberConfig, ...]:
    """The members of a pool, each with its views.

    Args:
        name: Of a pool that comes with the project, or the path of a YAML file.

    Raises:
        ConfigError: There is no such pool, or a setting in it is wrong.
    """
    pool = load(PoolConfig, _path(name), name=name)
    return tuple(
        member.model_copy(update={"views": member.views or pool.views}) for member in pool.members
    )


def fetched(member: MemberConfig, storage: S3Config, cache: Path) -> MemberConfig:
    """The member with its checkpoint on this machine.

    Args:
        member: Of a pool.
        storage: How S3 is reached.
        cache: The folder that runs share; copies are kept in it.

    Raises:
        CheckpointError: An object is not there, or cannot be kept.
        ConfigError: The store is not there, or refuses.
    """
    source = member.source
    if not isinstance(source, CheckpointSource):
        return member
    path = fetch(source.path, storage, cache / "fetched")
    return member.model_copy(update={"source": source.model_copy(update={"path": str(path)})})


def _path(name: str) -> Path:
    shipped = {path.stem: path for path in _SHIPPED.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        raise UnknownNameError.of("pool", name, [*shipped, "a path that ends in .yaml"])
    return Path(name)
