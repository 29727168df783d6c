"""A block: what one member said of the images of one shard."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Shaped

from ensemble.errors import ShapeError
from ensemble.images.shard import BadImage


@dataclass(frozen=True)
class LogitBlock:
    """A pure function of (member, views, shard); a lost one is computed again.

    Attributes:
        column: Identity of the member's computation.
        image_ids: Rows.
        log_probabilities: Log of the softmax averaged over views, in nats.
        bad: Images of the shard that have no row, and why.
        seconds: What the forward passes took.
        forward_passes: Images times views.
        flops_per_image: Floating-point operations of the network, all views; None: not counted.
        gpu_bytes: Peak of GPU memory that the member needed; None: no GPU.
    """

    column: str
    image_ids: Shaped[np.ndarray, "image"]
    log_probabilities: Float32[np.ndarray, "image class"]
    bad: tuple[BadImage, ...]
    seconds: float
    forward_passes: int
    flops_per_image: int | None = None
    gpu_bytes: int | None = None

    def __post_init__(self) -> None:
        if len(self.image_ids) != len(self.log_probabilities):
            raise ShapeError(
                f"a block of column {self.column} has {len(self.image_ids)} image ids and "
                f"{len(self.log_probabilities)} rows; expected one row an image."
            )

    def only(self, image_ids: Collection[str]) -> "LogitBlock":
        """The block without what it says of other images; its cost stays what it was."""
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
