"""A part: the answers to the images of a shard, one row an image, as the bytes of a Parquet file."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from ensemble.answers.settings import PartSettings
from ensemble.errors import ShapeError
from ensemble.images.shard import ImageShard
from ensemble.predictor import Prediction


def encode_part(
    keys: Sequence[str],
    image_ids: Sequence[str],
    shard: ImageShard,
    prediction: Prediction,
    settings: PartSettings,
) -> bytes:
    """Encode the answers to a shard: exactly one row for each image, in the order of the listing.

    An image that cannot be decoded or predicted has a row whose `error` says why, and no answer.

    Args:
        keys: What the images of the listing are decoded by.
        image_ids: What these images are called.
        shard: The images that were predicted, and the bad ones.
        prediction: Answers to the images of the shard.
        settings: What the part holds.

    Raises:
        ShapeError: An image of the listing is neither in the shard nor among its bad images.
    """
    rows, errors = _place(keys, shard)
    sound = [row for row in rows if row is not None]
    order = np.array(sound, dtype=np.int64)
    probabilities = prediction.probabilities[order]
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : settings.top_k]
    names = np.array(prediction.classes, dtype=object)
    answers = prediction.answers[order]
    values: dict[str, Sequence[object]] = {
        "answer": names[answers].tolist(),
        "answer_index": answers.tolist(),
        "probability": probabilities[np.arange(len(order)), answers].tolist(),
        "routed": prediction.routed[order].tolist(),
        "top_labels": names[best].tolist(),
        "top_probabilities": np.take_along_axis(probabilities, best, axis=1).tolist(),
    }
    if settings.steps:
        values["step"] = [] if prediction.exits is None else prediction.exits[order].tolist()
    if settings.sets:
        values["set"] = [prediction.set_of(row) for row in sound]
    columns: dict[str, pa.Array] = {"image_id": pa.array(image_ids, pa.string())}
    for name, kind in _types(settings).items():
        columns[name] = pa.array(_spread(rows, values[name]), kind)
    if settings.probabilities:
        columns["probabilities"] = _dense(rows, probabilities)
    columns["error"] = pa.array(errors, pa.string())
    return _encode(columns)


_TYPES = {
    "answer": pa.string(),
    "answer_index": pa.int32(),
    "probability": pa.float32(),
    "routed": pa.bool_(),
    "top_labels": pa.list_(pa.string()),
    "top_probabilities": pa.list_(pa.float32()),
}


def _types(settings: PartSettings) -> dict[str, pa.DataType]:
    """Give the columns with one value an image, by name; those of one kind of ensemble only where it is that kind."""
    steps = {"step": pa.int32()} if settings.steps else {}
    return _TYPES | steps | ({"set": pa.list_(pa.string())} if settings.sets else {})


def encode_failed_part(image_ids: Sequence[str], reason: str, settings: PartSettings) -> bytes:
    """Encode a part of images that all lack an answer for one reason."""
    nothing = [None] * len(image_ids)
    columns = {"image_id": pa.array(image_ids, pa.string())}
    columns |= {name: pa.array(nothing, kind) for name, kind in _types(settings).items()}
    if settings.probabilities:
        columns["probabilities"] = pa.array(nothing, pa.list_(pa.float32()))
    columns["error"] = pa.array([reason] * len(image_ids), pa.string())
    return _encode(columns)


def _encode(columns: dict[str, pa.Array]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def _place(keys: Sequence[str], shard: ImageShard) -> tuple[list[int | None], list[str | None]]:
    """Find the row of each image in the shard, or the reason why it has none.

    Both are in the order of the listing, in which an image may stand twice.
    """
    ids, row = shard.image_ids.tolist(), 0
    reasons = {bad.image_id: bad.reason for bad in shard.bad}
    rows: list[int | None] = []
    errors: list[str | None] = []
    for key in keys:
        if row < len(ids) and ids[row] == key:
            rows.append(row)
            errors.append(None)
            row += 1
        elif key in reasons:
            rows.append(None)
            errors.append(reasons[key])
        else:
            raise ShapeError(
                f"the shard holds no image {key!r}, and no reason why. Predict it again."
            )
    if row < len(ids):
        raise ShapeError(f"the shard holds {len(ids) - row} images that no row is for.")
    return rows, errors


def _spread(rows: Sequence[int | None], values: Sequence[object]) -> list[object]:
    """Put values into the rows that have one."""
    left = iter(values)
    return [None if row is None else next(left) for row in rows]


def _dense(rows: Sequence[int | None], probabilities: Float[np.ndarray, "image class"]) -> pa.Array:
    lengths = [0 if row is None else probabilities.shape[1] for row in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(probabilities.astype(np.float32).reshape(-1))
    mask = pa.array([row is None for row in rows])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)
