"""What one would write without this project: a Ray Data pipeline for each member. For the benchmark only."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.pool.host import HostSettings
from cluster.pool.synthetic_host import SyntheticHost
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.errors import ConfigError
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member


class _Predictor:
    """A member as Ray Data's actor."""

    def __init__(self, member: Member) -> None:
        self._member, self._host = member, SyntheticHost(HostSettings("cpu"))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = ImageShard.pack(batch["path"].tolist(), list(batch["image"]))
        block, _ = self._host.predict(self._member, None, shard)
        return {"path": batch["path"], "log_probabilities": block.log_probabilities}


def require_ray_data() -> None:
    """Tell, before anything is measured, whether it can be compared with.

    Raises:
        ConfigError: Ray Data cannot be imported.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"Ray Data cannot be imported ({error}). Install 'ray[data]', or set rival=false."
        ) from error


def predict_with_ray_data(folder: Path, member: Member, batch_images: int) -> dict[str, np.ndarray]:
    """Rows of a member by file name; a session must be open."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    predicted = ray.data.read_images(str(folder), mode="RGB", include_paths=True).map_batches(
        _Predictor,
        fn_constructor_args=(member,),
        batch_size=batch_images,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    return {
        Path(path).name: row
        for batch in predicted.iter_batches(batch_size=None, batch_format="numpy")
        for path, row in zip(batch["path"], batch["log_probabilities"], strict=True)
    }


def predict_all_with_ray_data(
    config: ClusterConfig, folder: Path, members: Sequence[Member], clock: Any
) -> dict[str, dict[str, np.ndarray]]:
    """Rows of all members, one pipeline after the other, on an embedded Ray.

    Args:
        config: Where and how wide.
        folder: With the images.
        members: Who predicts.
        clock: A context manager that is entered once Ray runs.
    """
    with session(config), clock:
        return {
            member.name: predict_with_ray_data(folder, member, config.shard_images)
            for member in members
        }
