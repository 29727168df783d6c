"""jobs / run / search: say here what this file is responsible for."""

from collections.abc import Sequence

import numpy as np

from cluster.search_task import start_search
from ensemble.evaluation.outcome import evaluate
from ensemble.evaluation.reading import StreamingOutranking
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.search.weights import best_member
from ensemble.subclassifiers.findings import (
    Subclassified,
)
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import Job, search_config
from jobs.run.predict import fill_table
from jobs.run.subclassifiers import (
    _choose,
    _fine_tune,
    find_label_clusters,
    halve,
    measure_similarity,
)


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


def choose_base(
    config: SubclassifiersConfig, members: Sequence[Member], outranking: OutrankingTable, k: int
) -> Member:
    """The member that is fine-tuned: the one named, or the best on the search split."""
    named = [member for member in members if member.name == config.base]
    return named[0] if named else members[best_member(outranking, k)]


def _alone(members: Sequence[Member], base: Member) -> np.ndarray:
    units = np.zeros(len(members), np.int64)
    units[[member.name for member in members].index(base.name)] = WEIGHT_UNITS
    return units
