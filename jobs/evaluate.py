"""The one-off: an artifact judged on labelled images, with predictions that are kept and never computed twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import PositiveInt

from cluster.settings import ClusterConfig
from ensemble.config import Config, Place, check, load_words
from ensemble.nightly.deployment import evaluate as evaluate_deployment
from ensemble.report.documents.nightly import Figure
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.table.logit_table import LogitTable
from ensemble.table.settings import TableConfig
from jobs.artifacts import find_artifact
from jobs.nightly.candidate import Say, Workers, watch_and_vault
from jobs.nightly.night import TABLE, without_bad
from jobs.nightly.suite import SuiteConfig
from jobs.nightly.verdicts import figures_of
from jobs.preflight import read_images
from jobs.stored_runs.open import split_words
from jobs.stored_runs.tables import hold_if_shared


class EvaluateConfig(Config):
    """The judging of one artifact."""

    top_k: PositiveInt = 5
    """The error among the top_k most probable classes is told beside the top-1 error."""
    folder: Place = "runs/evaluate"
    """Where the predictions are kept: a folder, or s3://bucket/prefix."""
    runs: Path = Path("runs")
    """The local folder whose cache keeps what members cost, as measured."""
    table: TableConfig = TableConfig()
    """How predictions are stored."""
    storage: StorageConfig = StorageConfig()
    """How everything at s3:// is reached."""
    cluster: ClusterConfig = ClusterConfig()
    """Where and how wide missing predictions are computed."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        artifact: Place of the artifact.
        images: Number of images.
        classes: Number of classes.
        forward_passes: Forward passes that it took; 0 where all predictions were there.
        figures: Errors, NLL and ECE, with their 95 % intervals.
        notes: What a person should know, a sentence each.
    """

    artifact: str
    images: int
    classes: int
    forward_passes: int
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


def evaluate(
    artifact: str,
    data: str,
    words: Sequence[str],
    workers_of: Callable[[SuiteConfig], Workers],
    say: Say,
) -> Evaluation:
    """Judge an artifact on labelled images.

    Args:
        artifact: The folder of an artifact, or that of its run, or its place at s3://.
        data: A folder with a sub-folder per class, a .parquet file, or the settings of a source.
        words: Settings of `EvaluateConfig`, of the form a.b=value.
        workers_of: Makes whoever predicts.
        say: Prints a line.

    Raises:
        ConfigError: A word or setting is wrong, or there is no artifact.
        DataError: The images are not those of the ensemble's classes.
    """
    config = load_words(EvaluateConfig, words)
    place, _ = find_artifact(artifact, split_words(words)[0])
    source = read_images(data)
    gates = [{"metric": "top1_error", "min_effect": 1}, {"metric": "ece", "min_effect": 1}]
    if config.top_k != 1:
        gates.append({"metric": f"top{config.top_k}_error", "min_effect": 1})
    row = {
        "name": "evaluate",
        "artifact": place,
        "images": source.model_dump(mode="json", exclude_unset=True) | {"kind": source.kind},
        "gates": gates,
    }
    settings = config.model_dump(exclude={"top_k"})
    suite = check(SuiteConfig, {**settings, "rows": [row]}, "the command")
    chosen, workers = suite.rows[0], workers_of(suite)
    candidate = workers.candidate(chosen, say)
    images, _ = watch_and_vault(chosen, candidate.images)
    store = open_store(f"{suite.folder}/{TABLE}", suite.storage)
    with hold_if_shared(store, suite.storage, say) as lease:
        table = LogitTable(store, suite.table.dtype, lease)
        passes = workers.fill(table, chosen, candidate, images.image_ids.tolist())
        images, notes = without_bad(table, candidate, images)
        outcomes = evaluate_deployment(table, candidate.deployment, images)
    return Evaluation(
        artifact=place,
        images=len(images),
        classes=len(images.classes),
        forward_passes=passes,
        figures=figures_of(outcomes, chosen.gates),
        notes=(*candidate.notes, *notes),
    )
