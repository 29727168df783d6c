"""Searching weights in a task of its own while sub-classifiers are fine-tuned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.search_task import start_search
from ensemble.evaluation.outcome import evaluate
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_member
from ensemble.subclassifiers.findings import Subclassified
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import Job, search_config
from jobs.run.predict import Predictions, fill_table
from jobs.run.subclassifiers import (
    choose_routing,
    find_label_clusters,
    fine_tune,
    halve,
    measure_similarity,
)


@dataclass(frozen=True)
class Fitted:
    """What was fitted on the search split.

    Attributes:
        settings: The search's, complete.
        ensemble: The weights.
        subclassifiers: What was fine-tuned and chosen; None without sub-classifiers.
    """

    settings: SearchConfig
    ensemble: Ensemble
    subclassifiers: Subclassified | None = None


def search_and_fine_tune(job: Job, predictions: Predictions) -> Fitted:
    """Search weights while sub-classifiers are fine-tuned, then choose how images are routed."""
    members, splits = predictions.members, predictions.splits
    settings = search_config(job.config.search, members, job.table)
    search = start_search(predictions.outranking, settings)
    config = job.config.subclassifiers
    if config is None:
        with job.progress.stage("search"):
            return Fitted(settings, search.result())
    base = _choose_base(config, predictions, settings)
    stopping, choosing = halve(config, splits.search, job.config.seed)
    with job.progress.stage("label clusters"):
        similarity = measure_similarity(config, base, members, job.table, stopping)
        clusterings = find_label_clusters(config, similarity)
    tuned = fine_tune(job, config, base, splits, stopping, clusterings)
    fill_table(job, "predict with sub-classifiers", tuned.members, splits)
    with job.progress.stage("search"):
        ensemble = search.result()
    units = ensemble.units if config.base is None else _only(members, base)
    with job.progress.stage("route"):
        tried = tuple(
            choose_routing(job, config, members, units, choosing, similarity, clustering)
            for clustering in tuned.clusterings
        )
        outcome = evaluate(job.table, members, choosing, {"ensemble": ensemble.units})["ensemble"]
    subclassified = Subclassified(
        member=base,
        first="weighted ensemble" if config.base is None else base.name,
        units=units,
        similarity=similarity.matrix,
        stopping=stopping if config.patience else stopping.take(np.arange(0)),
        choosing=choosing,
        tried=tried,
        ensemble_errors=outcome.errors(1),
        control=tuned.control,
    )
    return Fitted(settings, ensemble, subclassified)


def _choose_base(
    config: SubclassifiersConfig, predictions: Predictions, settings: SearchConfig
) -> Member:
    """The member that is fine-tuned: the one in the settings, or the best on the search split."""
    for member in predictions.members:
        if member.name == config.base:
            return member
    return predictions.members[best_member(predictions.outranking, settings)]


def _only(members: Sequence[Member], base: Member) -> np.ndarray:
    """Weights that give one member everything."""
    is_base = [member.name == base.name for member in members]
    return np.where(is_base, WEIGHT_UNITS, 0).astype(np.int64)
