"""The baseline of `ensemble benchmark scaling`: a Ray Data pipeline for each member, as one would write it by hand.

No run uses it; it is in `cluster/` because nothing else may import ray.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.pool.host import HostSettings
from cluster.pool.synthetic_host import SyntheticHost
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member


class _Predictor:
    """A callable of Ray Data's that predicts batches with one member."""

    def __init__(self, member: Member) -> None:
        self._member, self._host = member, SyntheticHost(HostSettings("cpu"))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = ImageShard.pack(batch["path"].tolist(), list(batch["image"]))
        block, _ = self._host.predict(self._member, None, shard)
        return {"path": batch["path"], "log_probabilities": block.log_probabilities}


def explain_missing_ray_data() -> str | None:
    """Say why Ray Data cannot be imported, and how to install it; give None where it can be."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        return f"Ray Data cannot be imported ({error}); pip install -e '.[benchmark]' installs it"
    return None


def predict_with_ray_data(folder: Path, member: Member, batch_images: int) -> dict[str, np.ndarray]:
    """Predict a folder of images with one member; a session must be open.

    Args:
        folder: Folder with the images.
        member: The member to predict with.
        batch_images: Images a batch.

    Returns:
        Log-probabilities [class] by file name.
    """
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.read_images(str(folder), mode="RGB", include_paths=True).map_batches(
        _Predictor,
        fn_constructor_args=(member,),
        batch_size=batch_images,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    return {
        Path(path).name: row
        for batch in dataset.iter_batches(batch_size=None, batch_format="numpy")
        for path, row in zip(batch["path"], batch["log_probabilities"], strict=True)
    }


def predict_all_with_ray_data(
    config: ClusterConfig, folder: Path, members: Sequence[Member], clock: Any
) -> dict[str, dict[str, np.ndarray]]:
    """Predict a folder of images with all members, one pipeline after the other, on an embedded Ray.

    Args:
        config: Settings of the Ray side.
        folder: Folder with the images.
        members: The members to predict with.
        clock: A context manager that is entered once Ray runs.

    Returns:
        Log-probabilities [class] by member and file name.
    """
    with session(config), clock:
        return {
            member.name: predict_with_ray_data(folder, member, config.shard_images)
            for member in members
        }
