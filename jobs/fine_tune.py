"""Search beside fine-tuning: label clusters, one training for each, and the choice of gate and routing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.search import start_search
from ensemble.evaluation import (
    StreamingOutranking,
    evaluate,
    evaluate_routed,
    gather_evidence,
)
from ensemble.images.index import ImageIndex
from ensemble.members import Member, load_member
from ensemble.report.build import best_member
from ensemble.search.crossfit import stratified_folds
from ensemble.search.fixed_point import WEIGHT_UNITS
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.subclassifiers.choose import cross_validate, fit_paper
from ensemble.subclassifiers.embeddings import label_embeddings
from ensemble.subclassifiers.fitted import (
    Clustered,
    RoutedTest,
    Subclassified,
    SubclassifiersOnTest,
)
from ensemble.subclassifiers.label_clusters import LabelClusters, label_clusters, stability
from ensemble.subclassifiers.settings import PAPER_FINE_TUNING, SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity, of_confusion, of_embeddings
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import Stopping, TrainTask
from jobs.flow import Job, check_classes, fill_table, search_config, train_tasks


@dataclass(frozen=True)
class _FineTuned:
    """Sub-classifiers before anything was chosen."""

    num_clusters: int
    clusters: LabelClusters
    subclassifiers: dict[int, Member]
    failures: dict[int, str]


def search_and_fine_tune(
    job: Job, members: Sequence[Member], streaming: StreamingOutranking
) -> tuple[Ensemble, OutrankingTable, Subclassified | None]:
    """Search weights in a task of its own while sub-classifiers are fine-tuned.

    Returns:
        The ensemble, the outranking table it was found on, and the sub-classifiers if there are some.
    """
    with job.progress.stage("outranking table"):
        outranking = streaming.finish(job.splits.search)
    search = start_search(outranking, search_config(job, members))
    config = job.config.subclassifiers
    if config is None:
        with job.progress.stage("search"):
            return search.result(), outranking, None
    base = choose_base(config, members, outranking, job.config.search.k)
    stopping, choosing = halve(config, job.splits.search, job.config.seed)
    with job.progress.stage("label clusters"):
        similarity = measure_similarity(config, base, members, job.table, stopping)
        found = find_label_clusters(config, similarity)
    tuned, control = _fine_tune(job, config, base, stopping, found)
    subs = [sub for part in tuned for sub in part.subclassifiers.values()]
    distinct = {sub.column: sub for sub in (*subs, *([control] if control else []))}
    fill_table(job, "predict with sub-classifiers", list(distinct.values()))
    with job.progress.stage("search"):
        ensemble = search.result()
    units = ensemble.units if config.base is None else _alone(members, base)
    with job.progress.stage("route"):
        tried = tuple(
            _choose(job, config, members, units, choosing, similarity, part) for part in tuned
        )
        outcome = evaluate(job.table, members, choosing, {"ensemble": ensemble.units})["ensemble"]
    return (
        ensemble,
        outranking,
        Subclassified(
            member=base,
            first="weighted ensemble" if config.base is None else base.name,
            units=units,
            similarity=similarity.matrix,
            stopping=stopping if config.patience else stopping.take(np.arange(0)),
            choosing=choosing,
            tried=tried,
            ensemble_errors=outcome.errors(1),
            control=control,
        ),
    )


def judge_on_test(
    job: Job, members: Sequence[Member], found: Subclassified
) -> SubclassifiersOnTest:
    """Judge base, paper's routing and ours on images that nothing of them was chosen on."""
    test = job.splits.test
    first = evaluate(job.table, members, test, {"first": found.units})["first"]
    paper, chosen = (
        RoutedTest(fitted, *evaluate_routed(job.table, members, test, fitted))
        for fitted in (found.fitted_as_paper(), found.fitted())
    )
    control = None
    if found.control is not None:
        with_it = [found.control if member == found.member else member for member in members]
        control = evaluate(job.table, with_it, test, {"control": found.units})["control"]
    return SubclassifiersOnTest(first, paper, chosen, control)


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


def choose_base(
    config: SubclassifiersConfig, members: Sequence[Member], outranking: OutrankingTable, k: int
) -> Member:
    """The member that is fine-tuned: the one named, or the best on the search split."""
    named = [member for member in members if member.name == config.base]
    return named[0] if named else members[best_member(outranking, k)]


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


def _alone(members: Sequence[Member], base: Member) -> np.ndarray:
    units = np.zeros(len(members), np.int64)
    units[[member.name for member in members].index(base.name)] = WEIGHT_UNITS
    return units
