"""A block: the log-probabilities that one member gives the images of one shard."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Shaped

from ensemble.errors import ShapeError
from ensemble.images.shard import BadImage


@dataclass(frozen=True)
class LogitBlock:
    """Log-probabilities of one member for one shard; a pure function of both, so a lost one is recomputed.

    Attributes:
        column: Identity of the member's computation.
        image_ids: Id of the image of each row.
        log_probabilities: Log of the softmax averaged over views, in nats.
        bad: Images of the shard that have no row, with the reason.
        seconds: Time that the forward passes took.
        forward_passes: Number of forward passes: images times views.
        flops_per_image: Floating-point operations of the network for an image under all views; None
            if they were not counted.
        gpu_bytes: Peak of the GPU memory that the member used, in bytes; None without a GPU.
        device_kind: Kind of the device that computed the rows, as `cpu`; None if it is not known.
    """

    column: str
    image_ids: Shaped[np.ndarray, "image"]
    log_probabilities: Float32[np.ndarray, "image class"]
    bad: tuple[BadImage, ...]
    seconds: float
    forward_passes: int
    flops_per_image: int | None = None
    gpu_bytes: int | None = None
    device_kind: str | None = None

    def __post_init__(self) -> None:
        if len(self.image_ids) != len(self.log_probabilities):
            raise ShapeError(
                f"a block of column {self.column} has {len(self.image_ids)} image ids and "
                f"{len(self.log_probabilities)} rows; expected one row an image."
            )

    def only(self, image_ids: Collection[str]) -> "LogitBlock":
        """Leave out the rows of all other images; the cost stays as it was."""
        keep = np.array([image_id in image_ids for image_id in self.image_ids.tolist()], dtype=bool)
        bad = tuple(bad for bad in self.bad if bad.image_id in image_ids)
        if keep.all():
            # As most often: a mask would copy every row.
            return replace(self, bad=bad)
        return replace(
            self,
            image_ids=self.image_ids[keep],
            log_probabilities=self.log_probabilities[keep],
            bad=bad,
        )
