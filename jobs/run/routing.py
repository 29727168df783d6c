"""Routing images to sub-classifiers: every gate is fitted, and a cost bound may leave no room for some."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ensemble.evaluation.outcome import evaluate
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.search.outcome import SearchOutcome
from ensemble.search.settings import SearchConfig
from ensemble.subclassifiers.answers import gather_evidence
from ensemble.subclassifiers.choose import Trial, cross_validate, fit_paper
from ensemble.subclassifiers.findings import Clustered, Subclassified
from ensemble.subclassifiers.label_clusters import stability
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.subclassifiers.similarity import LabelSimilarity
from jobs.run.job import Job, measured_cost_of
from jobs.run.subclassifiers import FineTuned, FineTuning


def choose_routings(
    job: Job,
    config: SubclassifiersConfig,
    settings: SearchConfig,
    members: Sequence[Member],
    tuning: FineTuning,
    search: SearchOutcome,
) -> tuple[Subclassified, tuple[str, ...]]:
    """Fit the routings for each number of label clusters, and the predictors that they are compared with.

    Args:
        job: The run.
        config: Settings of the sub-classifiers.
        settings: Settings of the search, with the costs of the members.
        members: The pool.
        tuning: The base, its sub-classifiers, and the images to choose on.
        search: The weights.

    Returns:
        What was fitted, and a sentence where the cost bound leaves out a routing.
    """
    base, choosing, answer = tuning.base, tuning.choosing, search.answer.ensemble
    weighting = answer.weighting if config.base is None else _only(members, base)
    with job.progress.stage("route"):
        tried = tuple(
            choose_routing(
                job, config, members, weighting, choosing, tuning.similarity, clustering, answer.k
            )
            for clustering in tuning.tuned.clusterings
        )
        tried, over_cost = _within_cost(job, settings, members, weighting.units, tried, base)
        outcomes = evaluate(
            job.table,
            members,
            choosing,
            {
                "answer": answer.weighting,
                "recommended": search.recommended.ensemble.weighting,
            },
        )
    subclassified = Subclassified(
        member=base,
        first=search.answer.label if config.base is None else base.name,
        weighting=weighting,
        similarity=tuning.similarity.matrix,
        stopping=tuning.stopping if config.patience else tuning.stopping.take(np.arange(0)),
        choosing=choosing,
        tried=tried,
        answer_wrong=outcomes["answer"].is_error(answer.k),
        recommended_wrong=outcomes["recommended"].is_error(answer.k),
        control=tuning.tuned.control,
    )
    return subclassified, over_cost


def choose_routing(
    job: Job,
    config: SubclassifiersConfig,
    members: Sequence[Member],
    weighting: Weighting,
    choosing: ImageIndex,
    similarity: LabelSimilarity,
    tuned: FineTuned,
    k: int,
) -> Clustered:
    """Fit the paper's gate and every other one on search images, for one number of label clusters."""
    evidence = gather_evidence(
        job.table, members, choosing, weighting, tuned.clusters, tuned.subclassifiers, k
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


def _within_cost(
    job: Job,
    settings: SearchConfig,
    members: Sequence[Member],
    units: np.ndarray,
    tried: tuple[Clustered, ...],
    base: Member,
) -> tuple[tuple[Clustered, ...], tuple[str, ...]]:
    """Mark the routings that the cost bound leaves no room for: every network that may answer counts.

    Returns:
        What was tried, marked, and a sentence where a routing is left out.
    """
    if settings.max_cost is None:
        return tried, ()
    costs = settings.costs
    first = sum(costs[m.name] for m, unit in zip(members, units, strict=True) if unit)
    of_base = costs[base.name]

    def total(clustered: Clustered, trial: Trial) -> float:
        subs = [clustered.subclassifiers[number] for number in trial.routing.used]
        if (
            job.config.search.costs
        ):  # in a unit of the user's own, which sub-classifiers have no cost in
            return first + of_base * len(subs)
        # A sub-classifier is as deep as its base.
        measured = measured_cost_of(subs, job.table, settings.cost, {})
        return first + sum(measured[sub.column] or of_base for sub in subs)

    marked, over = [], []
    for clustered in tried:
        trials = []
        for trial in clustered.trials:
            cost = total(clustered, trial)
            is_affordable = cost <= settings.max_cost * (1 + 1e-9)
            if not is_affordable and trial.routing.is_open:
                over.append(cost)
            trials.append(replace(trial, is_affordable=is_affordable))
        marked.append(replace(clustered, trials=tuple(trials)))
    if not over:
        return tuple(marked), ()
    note = (
        f"{len(over)} routings to sub-classifiers are not used: what answers first costs {first:,.6g}, "
        f"with their sub-classifiers it is {min(over):,.6g} or more, and search.max_cost is "
        f"{settings.max_cost:,.6g}."
    )
    return tuple(marked), (note,)


def _only(members: Sequence[Member], base: Member) -> Weighting:
    """Weights that give one member everything."""
    is_base = [member.name == base.name for member in members]
    return Weighting(np.where(is_base, WEIGHT_UNITS, 0).astype(np.int64))
