"""Searching weights in a task of its own while sub-classifiers are fine-tuned, and what to recommend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.depth_task import start_counting
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.suspects import describe_suspects
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.search.fallbacks import settings_without
from ensemble.search.outcome import SearchOutcome
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_first
from ensemble.subclassifiers.choose import Trial
from ensemble.subclassifiers.embeddings import why_no_base
from ensemble.subclassifiers.findings import Clustered, Subclassified
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import Job, measured_cost_of, search_config
from jobs.run.predict import Predictions, fill_test_split
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
        search: The weights, and all that their table says of them.
        on_search: Outcome of each member on the search split, by name.
        depths: Weighted layers on the longest path of each member's network, by name; None where they
            cannot be counted.
        notes: What a reader should know first, in sentences: suspects, and what was left out.
        subclassifiers: What was fine-tuned and chosen; None without sub-classifiers.
    """

    search: SearchOutcome
    on_search: dict[str, Outcome]
    depths: dict[str, int | None]
    notes: tuple[str, ...] = ()
    subclassifiers: Subclassified | None = None


def search_and_fine_tune(job: Job, predictions: Predictions) -> tuple[Fitted, Predictions]:
    """Name suspects, search weights while sub-classifiers are fine-tuned, and choose how images are routed.

    The test split is predicted meanwhile: by workers that have nothing to train, and what is then left
    together with the sub-classifiers.

    Returns:
        What was fitted, and the predictions with those of the test split.
    """
    members, splits = predictions.members, predictions.splits
    counting = start_counting(members)
    settings = settings_without(job.config.search, predictions.left_out)
    # Only a bound on the depth needs to wait for it.
    needed = counting.result() if settings.cost == "depth" else {}
    settings = search_config(settings, members, job.table, needed)
    search = job.searcher.start(predictions.outranking, settings)
    on_search = evaluate(job.table, members, splits.search, {})
    suspects = describe_suspects(on_search, splits.search.labels, splits.search.classes)
    for note in suspects:
        job.progress.say(f"warning: {note}")
    notes = (*predictions.notes, *suspects)

    def wait_for_search() -> Fitted:
        with job.progress.stage("search"):
            outcome = search.result()
        return Fitted(outcome, on_search, counting.result(), notes)

    config = job.config.subclassifiers
    if config is None:
        predictions = fill_test_split(job, predictions)
        return wait_for_search(), predictions
    base = _choose_base(config, predictions, settings)
    if base is None:
        note = _why_no_subclassifiers(predictions, settings)
        job.progress.say(note)
        predictions = fill_test_split(job, predictions)
        without = wait_for_search()
        return replace(without, notes=(*without.notes, note)), predictions
    best = members[best_first(predictions.outranking, settings)[0]]
    if config.base is None and (why := why_no_base(best)):
        note = (
            f"{best.name} is the best member, and cannot be fine-tuned: {why} Sub-classifiers are made "
            f"of {base.name}."
        )
        job.progress.say(note)
        notes = (*notes, note)
    stopping, choosing = halve(config, splits.search, job.config.seed)
    with job.progress.stage("label clusters"):
        similarity = measure_similarity(config, base, members, job.table, stopping)
        clusterings = find_label_clusters(config, similarity)
    tuned = fine_tune(job, config, base, splits, stopping, clusterings, predictions.predicted)
    predictions = fill_test_split(job, predictions, tuned.members)
    search_fit = wait_for_search()
    answer = search_fit.search.answer.ensemble
    weighting = answer.weighting if config.base is None else _only(members, base)
    with job.progress.stage("route"):
        tried = tuple(
            choose_routing(
                job, config, members, weighting, choosing, similarity, clustering, answer.k
            )
            for clustering in tuned.clusterings
        )
        tried, over_cost = _within_cost(job, settings, members, weighting.units, tried, base)
        outcomes = evaluate(
            job.table,
            members,
            choosing,
            {
                "answer": answer.weighting,
                "recommended": search_fit.search.recommended.ensemble.weighting,
            },
        )
    subclassified = Subclassified(
        member=base,
        first=search_fit.search.answer.label if config.base is None else base.name,
        weighting=weighting,
        similarity=similarity.matrix,
        stopping=stopping if config.patience else stopping.take(np.arange(0)),
        choosing=choosing,
        tried=tried,
        answer_wrong=outcomes["answer"].is_error(answer.k),
        recommended_wrong=outcomes["recommended"].is_error(answer.k),
        control=tuned.control,
    )
    notes = (*search_fit.notes, *over_cost)
    return replace(search_fit, subclassifiers=subclassified, notes=notes), predictions


def _why_no_subclassifiers(predictions: Predictions, settings: SearchConfig) -> str:
    if all(why_no_base(member) for member in predictions.members):
        return (
            "No sub-classifiers were trained: no member has a last linear layer that can be fine-tuned. "
            "Add a member that has one."
        )
    return (
        f"No sub-classifiers were trained: beside the cheapest member none would stay within "
        f"search.max_cost = {settings.max_cost:,.6g}. Raise search.max_cost to have them."
    )


def _choose_base(
    config: SubclassifiersConfig, predictions: Predictions, settings: SearchConfig
) -> Member | None:
    """Choose the member that is fine-tuned: the one in the settings, or the best on the search split.

    Members without a last linear layer, as programs are, are left aside: nothing of them can be
    fine-tuned.

    Under a cost bound, members are left aside whose sub-classifiers could not be used whatever
    answers first. A sub-classifier is its base with fewer outputs: it is reckoned at half the cost here,
    so that none is left aside that could be used after all.

    Returns:
        The member; None where there is none.
    """
    members, costs = predictions.members, settings.costs
    without = {m.name for m in members if why_no_base(m)}

    def could_be_used(member: Member) -> bool:
        if settings.max_cost is None:
            return True
        first = costs[member.name] if config.base else min(costs.values())
        return first + costs[member.name] / 2 <= settings.max_cost

    order = best_first(predictions.outranking, settings).tolist()
    in_order = [members[index] for index in order if members[index].name not in without]
    candidates = [member for member in in_order if could_be_used(member)]
    if config.base is not None:
        candidates = [member for member in candidates if member.name == config.base]
    return candidates[0] if candidates else None


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
