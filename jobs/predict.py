"""`ensemble predict`: answer unlabelled images in any number, exactly one row an image through any kill.

The listing is kept in chapters before anything is predicted, and a shard of images becomes one Parquet
part, which is published if nobody has published it. So what is missing is always known, and the same
command goes on from there.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from cluster.bulk_predict import BulkPool, open_bulk_pool
from cluster.scheduling.predict_task import PredictTask
from ensemble.answers.chapters import Chapter, Chapters, parts_folder
from ensemble.answers.part import encode_failed_part
from ensemble.answers.settings import PartSettings
from ensemble.artifact.document import FILE_NAME
from ensemble.artifact.read import document_sha256, parse_document
from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, PartialError
from ensemble.files import seal, unseal
from ensemble.images.shard import ShardSpec
from ensemble.images.unlabelled.open import open_unlabelled
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store, read_if_there
from jobs.artifacts import find_artifact
from jobs.predict_settings import PredictConfig, Summary
from jobs.progress import interrupt
from jobs.progress.live import Progress
from jobs.progress.stage import StageProgress

SETTINGS, SUMMARY = "predict.json", "summary.json"

# Settings that change how the work is done and no row of it.
_EXECUTION_ONLY = ("cluster", "storage", "price_per_hour")


@dataclass(frozen=True)
class _Work:
    """What all parts of a bulk prediction share."""

    config: PredictConfig
    artifact: str
    artifact_sha256: str
    part: PartSettings
    out: str
    trust_code: bool
    allow_partial: bool

    @property
    def store(self) -> Store:
        return open_store(self.out, self.config.storage)

    def task(self, name: str, key: str, keys: tuple[str, ...], ids: tuple[str, ...]) -> PredictTask:
        """Make the task of one part."""
        storage = self.config.storage
        return PredictTask(
            name=name,
            artifact=self.artifact,
            artifact_sha256=self.artifact_sha256,
            artifact_storage=storage,
            out=self.out,
            out_storage=storage,
            key=key,
            image_ids=ids,
            settings=self.part,
            keys=() if keys == ids else keys,
            equal_bits=self.config.equal_bits,
            trust_code=self.trust_code,
        )


def predict(
    place: str,
    out: str,
    config: PredictConfig,
    progress: Progress,
    *,
    trust_code: bool = False,
    allow_partial: bool = False,
) -> Summary:
    """Answer unlabelled images with an artifact; what an earlier attempt has answered is left as it is.

    Args:
        place: The artifact, or the run that has one.
        out: Folder of the answers, or s3://bucket/prefix.
        config: Checked settings.
        progress: What a person watches.
        trust_code: Accept members that run code of their own.
        allow_partial: Give images whose shard kills its worker every time rows with an error.

    Raises:
        ConfigError: There is no artifact, the images cannot be listed, or `out` holds other answers.
        PartialError: Parts are missing because they killed their worker every time.
    """
    storage = [
        f"storage.{name}={json.dumps(value)}"
        for name, value in config.storage.model_dump(exclude_defaults=True).items()
    ]
    artifact, _ = find_artifact(place, storage)
    content = open_store(artifact, config.storage).read(FILE_NAME)
    document = parse_document(content, f"{artifact}/{FILE_NAME}")
    work = _Work(
        config,
        _everywhere(artifact),
        document_sha256(content),
        PartSettings(
            config.top_k,
            config.probabilities,
            steps=document.cascade is not None,
            sets=document.conformal is not None,
        ),
        _everywhere(out),
        trust_code,
        allow_partial,
    )
    _check_settings(work)
    source = open_unlabelled(config.images)
    chapters = Chapters(source, work.store, config.chapter_images)
    with progress.stage("list images"):
        first = chapters.read(0)
    if not first.images:
        raise ConfigError(
            f"there is no image in {config.images.path!r}. Expected at least one; `images.form` says how the place "
            "is read."
        )
    started, summary = time.perf_counter(), Summary()
    with ExitStack() as stack:
        with progress.stage("start Ray"):
            pool = stack.enter_context(open_bulk_pool(config.cluster, config.images))
        with progress.stage("predict", 0, "images") as stage:
            for chapter in _read_ahead(chapters, first):
                stage.total += len(chapter.images)
                _answer(work, pool, chapter, summary, stage)
        summary.seconds = stage.elapsed
        _finish(work, pool, summary, time.perf_counter() - started)
    return summary


def _everywhere(place: str) -> str:
    """Give a place that means the same in every folder."""
    return place if place.startswith(S3_SCHEME) else str(Path(place).expanduser().absolute())


def _check_settings(work: _Work) -> None:
    """Record what the answers are of, or find that earlier ones are of the same.

    Raises:
        ConfigError: The place holds other answers, or files of something else.
    """
    store = work.store
    settings = {
        key: value
        for key, value in work.config.model_dump(mode="json").items()
        if key not in _EXECUTION_ONLY
    }
    settings["images"].pop("storage")
    settings["shard_images"] = work.config.cluster.shard_images
    ours = {"schema_version": 1, "artifact_sha256": work.artifact_sha256, **settings}
    text = (json.dumps(seal(ours), indent=2) + "\n").encode()
    if read_if_there(store, SETTINGS) is None:
        foreign = next(iter(store.keys("")), None)
        if foreign is not None:
            raise ConfigError(
                f"{work.out!r} holds {foreign!r}, and no {SETTINGS} of a prediction. Expected an empty or new "
                "folder, or that of a prediction to go on with; give another --out."
            )
        if store.create(SETTINGS, text):
            return
    try:
        theirs = unseal(json.loads(store.read(SETTINGS)))
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"{work.out}/{SETTINGS} cannot be read ({error}). Give another --out, or remove the folder."
        ) from error
    if theirs != ours:
        key = next(k for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k))
        raise ConfigError(
            f"{work.out!r} holds answers of another prediction: {key} is {theirs.get(key)!r} there and "
            f"{ours.get(key)!r} here. Give another --out, or the same settings to go on with that one."
        )


def _read_ahead(chapters: Chapters, first: Chapter) -> Iterator[Chapter]:
    """Give the chapters in order, and list the next one while one is predicted."""
    chapter = first
    with ThreadPoolExecutor(1, "list") as thread:
        while True:
            after = None if chapter.is_last else thread.submit(chapters.read, chapter.number + 1)
            yield chapter
            if after is None:
                return
            chapter = after.result()


def _answer(
    work: _Work, pool: BulkPool, chapter: Chapter, summary: Summary, stage: StageProgress
) -> None:
    """Answer the parts of a chapter that are not there."""
    there = set(work.store.keys(parts_folder(chapter.number)))
    todo = []
    for key, images in chapter.shards(work.config.cluster.shard_images):
        summary.parts += 1
        summary.images += len(images)
        if key in there:
            stage.done += len(images)
            continue
        keys, ids = (tuple(getattr(i, name) for i in images) for name in ("key", "image_id"))
        name = f"{work.artifact.rstrip('/').rpartition('/')[2]}, chapter {chapter.number}"
        todo.append((work.task(name, key, keys, ids), ShardSpec(keys)))
    for _, record in pool.answer(todo) if todo else ():
        interrupt.check()
        summary.computed += record.images
        summary.bad += record.bad
        stage.advance(record.images, record.images)


def _finish(work: _Work, pool: BulkPool, summary: Summary, held_s: float) -> None:
    missing = pool.quarantined
    for lost in missing:
        assert isinstance(lost.member, PredictTask)
        if work.allow_partial:
            task = lost.member
            reason = f"predicting its shard killed the worker every time: {lost.reason}"
            work.store.create(task.key, encode_failed_part(task.image_ids, reason, work.part))
            summary.computed += len(task.image_ids)
            summary.bad += len(task.image_ids)
    kinds = [device.kind for device in pool.devices]
    summary.device_hours = len(kinds) * held_s / 3600
    summary.devices = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    summary.retries = pool.retries
    if work.config.price_per_hour is not None:
        summary.cost = summary.device_hours * work.config.price_per_hour
    if missing and not work.allow_partial:
        named = "; ".join(f"{len(lost.shard.image_ids)} images ({lost.reason})" for lost in missing)
        raise PartialError(
            f"{len(missing)} parts are missing, because they killed their worker every time: {named}. All others "
            "are published. Run again to try them once more, or add --allow-partial to give these images rows "
            "with an error."
        )
    work.store.replace(SUMMARY, (json.dumps(summary.document(), indent=2) + "\n").encode())


def write_submission(out: str, storage: StorageConfig, write: Callable[[str], object]) -> int:
    """Write the most probable labels of each image, a line an image, in the order of the listing.

    This is what submission servers take, as the one of ImageNet with five labels a line. Labels stand
    apart by a blank, or by a tab where a label holds a blank. An image without an answer is an empty
    line.

    Args:
        out: Folder of the answers, or s3://bucket/prefix.
        storage: How S3 is reached.
        write: Receives each line.

    Returns:
        The number of lines.
    """
    store, lines = open_store(out, storage), 0
    for key in store.keys("parts"):
        table = pq.read_table(io.BytesIO(store.read(key)), columns=["top_labels"])
        for labels in table["top_labels"].to_pylist():
            has_blank = any(" " in label for label in labels or ())
            write(("\t" if has_blank else " ").join(labels or ()) + "\n")
            lines += 1
    return lines
