"""Imported predictions as a column of a table, a block at a time."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np

from ensemble.errors import DataError
from ensemble.members.identity import fingerprint
from ensemble.table.block import LogitBlock
from ensemble.table.imported import ImportedMember, ImportedPredictions, log_probabilities
from ensemble.table.logit_table import LogitTable

# Version of what is made of a file's numbers; columns that were made otherwise are not taken for the same.
_VERSION = 2
_BLOCK_IMAGES = 1024
_BLOCK_SCORES = 1 << 24


def add_to_table(
    table: LogitTable,
    predictions: ImportedPredictions,
    image_ids: Sequence[str],
    num_classes: int,
    class_map: Sequence[int | None],
    data_sha256: str,
) -> ImportedMember:
    """Commit the predictions of one member.

    Raises:
        DataError: The number of images is not the expected one, or an output has no class.
    """
    outputs = (
        predictions.scores.shape[1]
        if predictions.top is None
        else int(predictions.top.max(initial=-1)) + 1
    )
    is_dense = predictions.top is None
    if len(predictions.scores) != len(image_ids) or (
        outputs != len(class_map) if is_dense else outputs > len(class_map)
    ):
        raise DataError(
            f"{predictions.name} has {len(predictions.scores)} images and {outputs} outputs; expected "
            f"{len(image_ids)} images and {len(class_map)} outputs. Give the labels of the same images, "
            "and a --class-map where outputs are not the classes."
        )
    digest = sha256(np.ascontiguousarray(predictions.scores).tobytes())
    digest.update(
        b"" if predictions.top is None else np.ascontiguousarray(predictions.top).tobytes()
    )
    identity = {
        "version": _VERSION,
        "architecture": predictions.name,
        "classes": list(range(num_classes)),
        "predictions_sha256": digest.hexdigest(),
        "form": predictions.form if is_dense else f"top-{predictions.scores.shape[1]}",
        "class_map_sha256": fingerprint(list(class_map)),
        "data_sha256": data_sha256,
    }
    member = ImportedMember(predictions.name, identity)
    for rows in _blocks(len(image_ids), num_classes):
        table.commit(
            member,
            LogitBlock(
                column=member.column,
                image_ids=np.array(image_ids[rows], np.str_),
                log_probabilities=log_probabilities(predictions, rows, num_classes, class_map),
                bad=(),
                seconds=0.0,
                forward_passes=0,
            ),
        )
    return member


def _blocks(images: int, classes: int) -> Iterator[slice]:
    step = max(1, min(_BLOCK_IMAGES, _BLOCK_SCORES // classes))
    for start in range(0, images, step):
        yield slice(start, start + step)
