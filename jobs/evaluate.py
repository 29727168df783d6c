"""The one-off: an artifact judged on labelled images, with predictions that are kept and never computed twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ensemble.config import check, read_settings
from ensemble.errors import ConfigError
from ensemble.nightly.deployment import evaluate as evaluate_deployment
from ensemble.report.documents.nightly import Figure
from ensemble.storage.open import open_store
from ensemble.table.logit_table import LogitTable
from jobs.artifacts import find_artifact
from jobs.nightly.candidate import Say, Workers, watch_and_vault
from jobs.nightly.night import TABLE, without_bad
from jobs.nightly.suite import SuiteConfig
from jobs.nightly.verdicts import figures_of
from jobs.preflight import read_images
from jobs.stored_runs.open import split_words
from jobs.stored_runs.tables import hold_if_shared

# Settings of a suite that a one-off has a use for.
_SETTINGS = ("folder", "runs", "cluster", "table", "storage")
_FOLDER = "runs/evaluate"


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
        words: Settings: storage, cluster, runs, table, top_k, and `folder`, which keeps the predictions.
        workers_of: Makes whoever predicts.
        say: Prints a line.

    Raises:
        ConfigError: A word or setting is wrong, or there is no artifact.
        DataError: The images are not those of the ensemble's classes.
    """
    storage, others = split_words(words)
    settings = read_settings([*storage, *others])
    k = settings.pop("top_k", 5)
    unknown = sorted(settings.keys() - set(_SETTINGS))
    if unknown:
        raise ConfigError(
            f"no setting {unknown[0]!r}. Known: {', '.join(sorted((*_SETTINGS, 'top_k')))}."
        )
    place, _ = find_artifact(artifact, storage)
    source = read_images(data)
    gates = [{"metric": "top1_error", "min_effect": 1}, {"metric": "ece", "min_effect": 1}]
    gates += [{"metric": f"top{k}_error", "min_effect": 1}] if k != 1 else []
    row = {
        "name": "evaluate",
        "artifact": place,
        "images": source.model_dump(mode="json", exclude_unset=True) | {"kind": source.kind},
        "gates": gates,
    }
    suite = check(SuiteConfig, {"folder": _FOLDER, **settings, "rows": [row]}, "the command")
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
