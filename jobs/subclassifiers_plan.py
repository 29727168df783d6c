"""`ensemble subclassifiers plan`: what sub-classifiers could gain, from a finished run and without training."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ensemble.checkpoints.header import checkpoint_name
from ensemble.checkpoints.load import load_member
from ensemble.config import S3_SCHEME, load_words
from ensemble.errors import UnknownNameError
from ensemble.files import sha256_of
from ensemble.members.member import VIEW_MARK, Member
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import CheckpointSource
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.search.fit import fit
from ensemble.search.weights import best_member
from ensemble.storage.local_store import LocalStore
from ensemble.subclassifiers.dry_run import LabelPlan, best_plan, plan_label_clusters
from ensemble.subclassifiers.embeddings import label_embeddings
from ensemble.subclassifiers.label_clusters import LabelClusters, check_num_clusters, label_clusters
from ensemble.subclassifiers.settings import PAPER_FINE_TUNING, SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity, of_confusion, of_embeddings
from ensemble.views.policies import list_views
from ensemble.views.settings import CenterView
from jobs.search_settings import settings_of_run
from jobs.stored_runs.columns import Column
from jobs.stored_runs.finished import (
    FinishedRun,
    average_logs,
    open_finished_run,
    read_outranking,
)
from jobs.stored_runs.layout import cache_in


@dataclass(frozen=True)
class FirstAnswer:
    """The answers before any sub-classifier, on the search split.

    Attributes:
        name: The predictor that gives them: a member's name, or `the ensemble`.
        column: The column of the member that would be fine-tuned.
        num_views: Number of views that the column's predictions are averaged over.
        probabilities: The probabilities that the predictor gives.
    """

    name: str
    column: Column
    num_views: int
    probabilities: Float[np.ndarray, "image class"]


def first_answer(run: FinishedRun, config: SubclassifiersConfig) -> FirstAnswer:
    """Predict by the member that the settings name, or by the ensemble that the run's search selects."""
    names = [column.member for column in run.columns]
    if config.base is not None:
        index, name = names.index(config.base), config.base
        weighting = Weighting(np.where(np.arange(len(names)) == index, WEIGHT_UNITS, 0))
    else:
        settings = settings_of_run(run.config.search, run.costs, run.families)
        outranking = read_outranking(run, run.splits.search, {}, settings.combines)
        weighting = fit(outranking, settings).weighting
        index, name = best_member(outranking, settings), "the ensemble"
    logs = average_logs(run, run.splits.search, {}, weighting)
    return FirstAnswer(name, run.columns[index], _num_views(run, run.columns[index]), np.exp(logs))


def find_clusters(
    run: FinishedRun, config: SubclassifiersConfig, base: FirstAnswer
) -> tuple[list[tuple[int, LabelClusters]], str | None]:
    """Cluster the classes for each number of label clusters.

    Returns:
        The label clusters by their number, and a note where the similarity is not the settings'.
    """
    similarity, note = _similarity(run, config, base)
    return [
        (num_clusters, label_clusters(similarity.matrix, num_clusters, config))
        for num_clusters in config.num_clusters
    ], note


def _similarity(
    run: FinishedRun, config: SubclassifiersConfig, base: FirstAnswer
) -> tuple[LabelSimilarity, str | None]:
    images, note = run.splits.search, None
    if config.similarity != "confusion":
        columns = run.columns if config.similarity == "members" else (base.column,)
        member_by_name = {column.member: _member(run, column) for column in columns}
        embeddings = [label_embeddings(member) for member in member_by_name.values() if member]
        if len(embeddings) == len(member_by_name):
            return of_embeddings(embeddings), None
        lacking = ", ".join(name for name, member in member_by_name.items() if member is None)
        note = (
            f"note: the weights of {lacking} are not on this machine, so label clusters come from the "
            "classes that the base confuses (similarity=confusion); a run would use label embeddings."
        )
    rows = run.table.read(base.column.key, images.image_ids)
    return of_confusion(np.exp(rows.astype(np.float64)), images.labels), note


def _member(run: FinishedRun, column: Column) -> Member | None:
    """The member of a column, if its weights are where this machine's runs keep them."""
    commit = next(c for c in run.table.commits() if c.column == column.key)
    sha256, source = commit.identity.get("weights_sha256"), _settings(run, column).source
    # Beside the run, wherever the command is called from.
    is_local = isinstance(run.files, LocalStore)
    cache = cache_in(Path(run.files.url).parent if is_local else run.config.runs)
    places = []
    if isinstance(source, CheckpointSource) and not source.path.startswith(S3_SCHEME):
        places.append(Path(source.path))
    places += sorted(cache.glob(checkpoint_name(column.family, "*")))
    for path in places:
        if _is_file_of(path, sha256):
            return load_member(column.member, path, CenterView(), run.data_sha256)
    return None


def _settings(run: FinishedRun, column: Column) -> MemberConfig:
    """Find the settings of the member that a column is of; a view kept apart is named after it."""
    name = column.member.partition(VIEW_MARK)[0]
    return next(member for member in run.config.members if member.name == name)


def _num_views(run: FinishedRun, column: Column) -> int:
    if VIEW_MARK in column.member:
        return 1
    return len(list_views(_settings(run, column).views or run.config.views))


def _is_file_of(path: Path, sha256: object) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def examine(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """Plan label clusters for a finished run.

    Args:
        folder: The folder of the run.
        words: Settings of `subclassifiers`, of the form key=value, on top of the run's own.

    Returns:
        The document that `--json` prints.

    Raises:
        ConfigError: The folder is not that of a finished run, or a setting is wrong.
        TableError: The table is damaged.
    """
    run = open_finished_run(folder)
    of_run = run.config.subclassifiers
    settings = of_run.model_dump(mode="json") if of_run else {}
    config = load_words(SubclassifiersConfig, words, settings, group="subclassifiers")
    names = [column.member for column in run.columns]
    if config.base is not None and config.base not in names:
        raise UnknownNameError.of("member", config.base, names)
    check_num_clusters(max(config.num_clusters), len(run.splits.search.classes))
    base = first_answer(run, config)
    candidates, note = find_clusters(run, config, base)
    recipe = run.config.recipes[config.recipe] if config.recipe else PAPER_FINE_TUNING
    seconds = base.column.costs.get("seconds", 0) / base.num_views or None
    plans = tuple(
        plan_label_clusters(
            num_clusters,
            clusters,
            base.probabilities,
            run.splits.search.labels,
            run.splits.train.labels,
            recipe.epochs,
            seconds,
        )
        for num_clusters, clusters in candidates
    )
    best = best_plan(plans)
    return {
        "run": str(folder),
        "images": "search",
        "first_answer": base.name,
        "fine_tuned": base.column.member,
        "notes": [note] if note else [],
        "classes": list(run.splits.search.classes),
        "worth_it": best.num_clusters if best else None,
        "plans": [_described(plan) for plan in plans],
    }


def _described(plan: LabelPlan) -> dict[str, Any]:
    clusters = [asdict(cluster) | {"is_worth_it": cluster.is_worth_it} for cluster in plan.clusters]
    return asdict(plan) | {"promise": plan.promise, "clusters": clusters}
