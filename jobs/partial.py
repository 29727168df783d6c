"""What killed its worker every time: told with what is missing, or left out where that is allowed."""

from collections.abc import Sequence

from cluster.crew import LeftOut
from ensemble.errors import PartialError
from ensemble.images.shard import BadImage

_SHOWN = 5


def left_out_images(left_out: Sequence[LeftOut], allow_partial: bool) -> tuple[BadImage, ...]:
    """The images that some member has no prediction of.

    Raises:
        PartialError: There are some, and that is not allowed.
    """
    if left_out and not allow_partial:
        shown = "; ".join(_describe(out) for out in left_out[:_SHOWN])
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        raise PartialError(
            f"{len(left_out)} blocks are missing, because they killed their worker every time: "
            f"{shown}{more}. Everything else is kept. Run again to try them once more, or add "
            "--allow-partial to go on without these images."
        )
    return tuple(
        BadImage(image_id, f"predicting its shard with {out.member.name} killed the worker")
        for out in left_out
        for image_id in out.shard.image_ids
    )


def _describe(out: LeftOut) -> str:
    ids = out.shard.image_ids
    return f"{out.member.name!r} on {len(ids)} images from {ids[0]!r} to {ids[-1]!r} ({out.reason})"
