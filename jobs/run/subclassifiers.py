"""jobs / run / subclassifiers: say here what this file is responsible for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ensemble.checkpoints.load import load_member
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.search.crossfit import stratified_folds
from ensemble.subclassifiers.answers import gather_evidence
from ensemble.subclassifiers.choose import cross_validate, fit_paper
from ensemble.subclassifiers.embeddings import label_embeddings
from ensemble.subclassifiers.findings import (
    Clustered,
)
from ensemble.subclassifiers.label_clusters import LabelClusters, label_clusters, stability
from ensemble.subclassifiers.settings import PAPER_FINE_TUNING, SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity, of_confusion, of_embeddings
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import Stopping, TrainTask
from jobs.run.job import Job
from jobs.run.train import check_classes, train_tasks


@dataclass(frozen=True)
class _FineTuned:
    """Sub-classifiers before anything was chosen."""

    num_clusters: int
    clusters: LabelClusters
    subclassifiers: dict[int, Member]
    failures: dict[int, str]


def check_imported(job: Job) -> None:
    """Refuse, before anything is trained, what was brought along and does not fit.

    Raises:
        ConfigError: A member has other classes, or the base that is named no label embeddings.
    """
    config = job.config.subclassifiers
    for name, path in job.imported.items():
        member = load_member(
            name, path, job.config.views, job.data_sha256, trust_code=job.trust_code
        )
        check_classes(member, len(job.splits.test.classes))
        if config and config.base == name and config.similarity != "confusion":
            label_embeddings(member)


def halve(
    config: SubclassifiersConfig, search: ImageIndex, seed: int
) -> tuple[ImageIndex, ImageIndex]:
    """The search images that fine-tuning stops on, and those that everything else is chosen on.

    Two halves by class: an epoch picked for its answers to an image looks better on it than it is, so
    that image cannot say whether the sub-classifier should be asked. Cross-fitting would fine-tune
    every sub-classifier once for each fold. Where nothing is stopped, all images serve both.
    """
    if config.patience is None:
        return search, search
    folds = stratified_folds(search.labels, 2, seed)
    return search.take(np.flatnonzero(folds == 0)), search.take(np.flatnonzero(folds == 1))


def measure_similarity(
    config: SubclassifiersConfig,
    base: Member,
    members: Sequence[Member],
    table: LogitTable,
    images: ImageIndex,
) -> LabelSimilarity:
    """Similarity of the labels as the settings say.

    Raises:
        ConfigError: It is to come from label embeddings, and a member has none.
    """
    if config.similarity == "confusion":
        rows = table.read(base.column, images.image_ids)
        return of_confusion(np.exp(rows.astype(np.float64)), images.labels)
    chosen = members if config.similarity == "members" else (base,)
    return of_embeddings([label_embeddings(member) for member in chosen])


def find_label_clusters(
    config: SubclassifiersConfig, similarity: LabelSimilarity
) -> dict[LabelClusters, int]:
    """Distinct label clusters, each with the first number of them that was asked for."""
    found: dict[LabelClusters, int] = {}
    for num_clusters in config.num_clusters:
        found.setdefault(label_clusters(similarity.matrix, num_clusters, config), num_clusters)
    return found


def _fine_tune(
    job: Job,
    config: SubclassifiersConfig,
    base: Member,
    stopping: ImageIndex,
    found: dict[LabelClusters, int],
) -> tuple[list[_FineTuned], Member | None]:
    """Sub-classifiers for all label clusters, and the base trained on where that is asked for.

    Equal label clusters share theirs. The largest come first.
    """
    recipe = job.config.recipes[config.recipe] if config.recipe else PAPER_FINE_TUNING

    def task(classes: tuple[int, ...]) -> TrainTask:
        return TrainTask.of_subclassifier(
            base,
            job.splits.train,
            classes,
            recipe,
            job.seed_of("sub-classifier", *classes),
            job.cache,
            Stopping(stopping, config.patience) if config.patience else None,
        )

    tasks = {classes: task(classes) for clusters in found for classes in clusters}
    everyone = tuple(range(len(base.classes)))
    if config.control:
        tasks[everyone] = replace(task(everyone), name=f"{base.name}/all")
    ordered = sorted(tasks.values(), key=lambda t: (-len(t.images), t.key))
    failures = train_tasks(job, "fine-tune", ordered, may_fail=True)

    def load(t: TrainTask) -> Member:
        member = load_member(
            t.name, t.checkpoint, base.views, job.data_sha256, trust_code=job.trust_code
        )
        return replace(member, precision=base.precision)

    members = {classes: load(t) for classes, t in tasks.items() if t.name not in failures}
    tuned = [
        _FineTuned(
            num_clusters,
            clusters,
            {n: members[classes] for n, classes in enumerate(clusters) if classes in members},
            {
                n: failures[tasks[classes].name]
                for n, classes in enumerate(clusters)
                if classes not in members
            },
        )
        for clusters, num_clusters in found.items()
    ]
    return tuned, members.get(everyone) if config.control else None


def _choose(
    job: Job,
    config: SubclassifiersConfig,
    members: Sequence[Member],
    units: np.ndarray,
    choosing: ImageIndex,
    similarity: LabelSimilarity,
    tuned: _FineTuned,
) -> Clustered:
    evidence = gather_evidence(
        job.table, members, choosing, units, tuned.clusters, tuned.subclassifiers
    )
    paper, curve = fit_paper(evidence)
    return Clustered(
        num_clusters=tuned.num_clusters,
        clusters=tuned.clusters,
        stability=stability(tuned.clusters, similarity.resampled, tuned.num_clusters, config),
        subclassifiers=tuned.subclassifiers,
        failures=tuned.failures,
        paper=paper,
        paper_curve=curve,
        trials=tuple(
            cross_validate(evidence, gate, kind, job.config.seed)
            for gate in config.gates
            for kind in config.routings
        ),
    )
