"""What a plan of sub-classifiers starts from: the first answers and the label clusters of a finished run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.subclassifiers.dry_run import LabelPlan

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.checkpoints.header import checkpoint_name
from ensemble.checkpoints.load import load_member
from ensemble.config import S3_SCHEME
from ensemble.files import sha256_of
from ensemble.members.member import VIEW_MARK, Member
from ensemble.members.source_settings import CheckpointSource
from ensemble.search.fit import fit
from ensemble.search.weights import best_member
from ensemble.storage.store import LocalStore
from ensemble.subclassifiers.embeddings import label_embeddings
from ensemble.subclassifiers.label_clusters import LabelClusters, label_clusters
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity, of_confusion, of_embeddings
from ensemble.views.policies import list_views
from ensemble.views.settings import CenterView
from jobs.search_settings import settings_of_run
from jobs.stored_runs.finished import Column, FinishedRun, average_logs, read_outranking


@dataclass(frozen=True)
class FirstAnswer:
    """Who answers before any sub-classifier, on the search split.

    Attributes:
        name: In words.
        column: Of the member that would be fine-tuned.
        num_views: That its predictions are averaged over.
        probabilities: Of whoever answers first.
    """

    name: str
    column: Column
    num_views: int
    probabilities: Float[np.ndarray, "image class"]


def first_answer(run: FinishedRun, config: SubclassifiersConfig) -> FirstAnswer:
    """The member that is named, or the ensemble that the run's search finds on its table."""
    names = [column.member for column in run.columns]
    if config.base is not None:
        index, name = names.index(config.base), config.base
        shares = np.eye(len(names))[index]
    else:
        outranking = read_outranking(run, run.splits.search, {})
        settings = settings_of_run(run.config.search, run.costs, run.families)
        shares = np.asarray(fit(outranking, settings).weights, np.float64)
        index, name = best_member(outranking, settings), "the ensemble"
    logs = average_logs(run, run.splits.search, {}, shares / shares.sum())
    views = run.config.members[index].views or run.config.views
    return FirstAnswer(name, run.columns[index], len(list_views(views)), np.exp(logs))


def find_clusters(
    run: FinishedRun, config: SubclassifiersConfig, base: FirstAnswer
) -> tuple[list[tuple[int, LabelClusters]], str | None]:
    """Label clusters for each number of them, and a note where they are not those of the settings."""
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
        wanted = run.columns if config.similarity == "members" else (base.column,)
        found = {column.member: _member(run, column) for column in wanted}
        present = [label_embeddings(member) for member in found.values() if member]
        if len(present) == len(found):
            return of_embeddings(present), None
        lacking = ", ".join(name for name, member in found.items() if member is None)
        note = (
            f"note: the weights of {lacking} are not here, so that label clusters come from what the "
            "base takes for what (similarity=confusion); a run would take label embeddings."
        )
    rows = run.table.read(base.column.key, images.image_ids)
    return of_confusion(np.exp(rows.astype(np.float64)), images.labels), note


def _member(run: FinishedRun, column: Column) -> Member | None:
    """The member of a column, if its weights are where this machine's runs keep them."""
    commit = next(c for c in run.table.commits() if c.column == column.key)
    wanted = commit.identity.get("weights_sha256")
    name = column.member.partition(VIEW_MARK)[0]
    source = next(m.source for m in run.config.members if m.name == name)
    # Beside the run, wherever the command is called from.
    is_local = isinstance(run.files, LocalStore)
    cache = (Path(run.files.url).parent if is_local else run.config.runs) / "cache"
    places = []
    if isinstance(source, CheckpointSource) and not source.path.startswith(S3_SCHEME):
        places.append(Path(source.path))
    places += sorted(cache.glob(checkpoint_name(column.family, "*")))
    for path in places:
        if _is_file_of(path, wanted):
            return load_member(column.member, path, CenterView(), run.data_sha256)
    return None


def _is_file_of(path: Path, sha256: object) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def examine(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """Plan label clusters for a finished run.

    Args:
        folder: Of the run.
        words: Settings of `subclassifiers`, on top of the run's own.

    Raises:
        ConfigError: It is no finished run, or a setting is wrong.
        TableError: The table is damaged.
    """
    # Here, because `--help` must not pay for array libraries.
    from ensemble.config import check, read_settings
    from ensemble.errors import UnknownNameError
    from ensemble.subclassifiers.dry_run import best_plan, plan_label_clusters
    from ensemble.subclassifiers.label_clusters import check_num_clusters
    from ensemble.subclassifiers.settings import PAPER_FINE_TUNING, SubclassifiersConfig
    from jobs.stored_runs.finished import open_finished_run

    run = open_finished_run(folder)
    of_run = run.config.subclassifiers
    settings = of_run.model_dump(mode="json") if of_run else {}
    config = check(SubclassifiersConfig, read_settings(words, settings), "the command")
    names = [column.member for column in run.columns]
    if config.base is not None and config.base not in names:
        raise UnknownNameError.of("member", config.base, names)
    check_num_clusters(max(config.num_clusters), len(run.splits.search.classes))
    base = first_answer(run, config)
    clusters, note = find_clusters(run, config, base)
    recipe = run.config.recipes[config.recipe] if config.recipe else PAPER_FINE_TUNING
    seconds = base.column.costs.get("seconds", 0) / base.num_views or None
    plans = tuple(
        plan_label_clusters(
            num_clusters,
            found,
            base.probabilities,
            run.splits.search.labels,
            run.splits.train.labels,
            recipe.epochs,
            seconds,
        )
        for num_clusters, found in clusters
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
        "plans": [_described(found) for found in plans],
    }


def _described(plan: "LabelPlan") -> dict[str, Any]:
    clusters = [asdict(cluster) | {"is_worth_it": cluster.is_worth_it} for cluster in plan.clusters]
    return asdict(plan) | {"promise": plan.promise, "clusters": clusters}
