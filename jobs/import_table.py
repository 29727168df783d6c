"""`ensemble table import`: a run's folder made of predictions that were computed elsewhere."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ensemble.config import S3_SCHEME, check
from ensemble.errors import ConfigError, DataError
from ensemble.images.index import ImageIndex
from ensemble.images.sources import listed
from ensemble.images.split import split
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import read_if_there
from ensemble.table.imported import Form, ImportedPredictions, add_to_table, read_file
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.layout import CONFIG, IMAGES, check_same
from jobs.stored_runs.tables import hold_if_shared, table_store


@dataclass(frozen=True)
class ImportSettings:
    """What is imported, and what it means.

    Attributes:
        files: Files with predictions; see `ensemble.table.imported.read_file`.
        labels: A `.npy`, `.json` or `.csv` (image_id,label); if None, the `.npz` holds the labels.
        form: Whether dense predictions are probabilities or logits.
        class_map: A JSON list with the class index of each output, null for none.
        classes: A JSON list of class names; numbers if None.
        search: Share of the images that weights are fitted on; the others judge the weights.
        seed: Seed of the draw of that share.
        dtype: Precision in which predictions are stored.
    """

    files: Sequence[Path]
    labels: Path | None = None
    form: Form = "probabilities"
    class_map: Path | None = None
    classes: Path | None = None
    search: float = 0.5
    seed: int = 0
    dtype: str = "float32"


def import_table(
    place: Path | str, settings: ImportSettings, storage: StorageConfig | None = None
) -> tuple[RunConfig, ImageIndex]:
    """Make a folder, local or on S3, that `ensemble search` takes like that of a finished run.

    Returns:
        The settings of the run, and its images.

    Raises:
        ConfigError: The folder belongs to another run, or a setting is wrong.
        DataError: A file cannot be read, or files do not fit together.
    """
    predictions: list[ImportedPredictions] = []
    extra: dict[str, np.ndarray] = {}
    for path in settings.files:
        members, more = read_file(path, settings.form)
        predictions += members
        extra |= more
    index = _index(predictions, extra, settings)
    class_map = _class_map(predictions, index, settings.class_map)
    place, storage = str(place), storage or StorageConfig()
    config = _config(place, predictions, index, settings, storage)
    split(index, config.images.split, config.seed)
    files = open_store(place, storage)
    text = config.model_dump_json(indent=2) + "\n"
    if (text_there := read_if_there(files, CONFIG)) is not None:
        check_same(place, json.loads(text_there), json.loads(text))
    files.replace(IMAGES, listed.encode(index))
    files.replace(CONFIG, text.encode())
    store = table_store(config, place)
    with hold_if_shared(store, storage) as lease:
        table = LogitTable(store, config.table.dtype, lease)
        for imported in predictions:
            ordered = _ordered(imported, index)
            ids = index.image_ids.tolist()
            add_to_table(table, ordered, ids, len(index.classes), class_map, index.sha256)
    return config, index


def _index(
    predictions: Sequence[ImportedPredictions],
    extra: dict[str, np.ndarray],
    settings: ImportSettings,
) -> ImageIndex:
    labels_by_id: dict[str, int] = {}
    if settings.labels is None:
        if "labels" not in extra:
            raise ConfigError("there are no labels in the files; expected --labels FILE.")
        labels = extra["labels"].astype(np.int64)
    elif settings.labels.suffix == ".csv":
        labels_by_id = _read_labels(settings.labels)
        labels = np.array(list(labels_by_id.values()), np.int64)
    else:
        is_npy = settings.labels.suffix == ".npy"
        values = np.load(settings.labels, allow_pickle=False) if is_npy else _json(settings.labels)
        labels = np.asarray(values, np.int64)
    ids = next((f.image_ids for f in predictions if f.image_ids is not None), None)
    if labels_by_id:
        image_ids = np.array(list(labels_by_id), np.str_)
    else:
        image_ids = ids if ids is not None else np.array([f"{i:08d}" for i in range(len(labels))])
    if len(image_ids) != len(labels):
        raise DataError(
            f"there are {len(labels)} labels and {len(image_ids)} images; expected one each."
        )
    if settings.classes:
        names = tuple(str(name) for name in _json(settings.classes))
    else:
        num_classes = 1 + max(int(labels.max(initial=0)), *(_outputs(f) - 1 for f in predictions))
        names = tuple(str(i) for i in range(num_classes))
    return ImageIndex("listed-1", image_ids, labels, names)


def _outputs(predictions: ImportedPredictions) -> int:
    return (
        predictions.scores.shape[1]
        if predictions.top is None
        else int(predictions.top.max(initial=0)) + 1
    )


def _class_map(
    predictions: Sequence[ImportedPredictions], index: ImageIndex, path: Path | None
) -> list[int | None]:
    num_classes = len(index.classes)
    class_map = list(range(num_classes)) if path is None else _json(path)
    used = [c for c in class_map if c is not None]
    if len(set(used)) != len(used) or not all(
        isinstance(c, int) and 0 <= c < num_classes for c in used
    ):
        raise ConfigError(
            f"the class map {str(path)!r} must list, for each output, one of {num_classes} classes or "
            "null, and no class twice."
        )
    return class_map


def _ordered(predictions: ImportedPredictions, index: ImageIndex) -> ImportedPredictions:
    """The predictions in the order of the index, joined by id where ids are there."""
    if predictions.image_ids is None or np.array_equal(predictions.image_ids, index.image_ids):
        return predictions
    row_by_id = {str(image_id): row for row, image_id in enumerate(predictions.image_ids)}
    lacking = [str(i) for i in index.image_ids if str(i) not in row_by_id]
    if lacking:
        raise DataError(
            f"{predictions.name} has no prediction of {len(lacking)} of {len(index)} images, as "
            f"{lacking[0]!r}. Leave them out of the labels, or give the predictions."
        )
    rows = np.array([row_by_id[str(i)] for i in index.image_ids])
    top = None if predictions.top is None else predictions.top[rows]
    return ImportedPredictions(
        predictions.name, predictions.scores[rows], predictions.form, top, index.image_ids
    )


def _config(
    place: str,
    predictions: Sequence[ImportedPredictions],
    index: ImageIndex,
    settings: ImportSettings,
    storage: StorageConfig,
) -> RunConfig:
    is_remote = place.startswith(S3_SCHEME)
    folder = PurePosixPath(place.removeprefix(S3_SCHEME)) if is_remote else Path(place)
    here = place if is_remote else str(Path(place).resolve())
    value = {
        "name": folder.name,
        "runs": "runs" if is_remote else str(folder.parent),
        "storage": storage.model_dump(),
        "seed": settings.seed,
        "images": {
            "source": {"kind": "listed", "path": f"{here.rstrip('/')}/{IMAGES}"},
            "split": {"train": 0, "search": max(1, round(settings.search * len(index)))},
        },
        "members": [{"name": f.name, "source": {"kind": "imported"}} for f in predictions],
        "table": {"dtype": settings.dtype},
        "report": {"top_k": min(3, max(1, len(index.classes) - 1))},
    }
    return check(RunConfig, value, "the import")


def _read_labels(path: Path) -> dict[str, int]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["image_id"]: int(row["label"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"cannot read labels from {path}: {error!r}. Expected columns image_id and label."
        ) from error


def _json(path: Path) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}. Expected a JSON list.") from error
    if not isinstance(value, list):
        raise ConfigError(f"{path} holds {type(value).__name__}; expected a JSON list.")
    return value
