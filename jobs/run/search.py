"""Searching weights in a process of its own while sub-classifiers are fine-tuned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.depth_task import start_counting
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.suspects import describe_suspects
from ensemble.members.member import Member
from ensemble.search.fallbacks import settings_without
from ensemble.search.outcome import SearchOutcome
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_first
from ensemble.subclassifiers.embeddings import why_no_base
from ensemble.subclassifiers.findings import Subclassified
from ensemble.subclassifiers.settings import SubclassifiersConfig
from jobs.run.job import Job, search_config
from jobs.run.predict import Predictions, fill_test_split
from jobs.run.routing import choose_routings
from jobs.run.subclassifiers import fine_tune_base


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
    search = _RunningSearch(job, predictions)
    config = job.config.subclassifiers
    base = _choose_base(config, predictions, search) if config else None
    if config is None or base is None:
        predictions = fill_test_split(job, predictions)
        return search.wait(), predictions
    tuning = fine_tune_base(job, config, base, predictions)
    predictions = fill_test_split(job, predictions, tuning.tuned.members)
    fitted = search.wait()
    subclassified, over_cost = choose_routings(
        job, config, search.settings, predictions.members, tuning, fitted.search
    )
    notes = (*fitted.notes, *over_cost)
    return replace(fitted, subclassifiers=subclassified, notes=notes), predictions


class _RunningSearch:
    """A search under way, and what is known of the search split beside it.

    Attributes:
        settings: Settings of the search, with the costs of the members.
    """

    def __init__(self, job: Job, predictions: Predictions) -> None:
        members, images = predictions.members, predictions.splits.search
        self._progress = job.progress
        self._depths = start_counting(members)
        settings = settings_without(job.config.search, predictions.left_out)
        # Only a bound on the depth needs to wait for it.
        depths = self._depths.result() if settings.cost == "depth" else {}
        self.settings = search_config(settings, members, job.table, depths)
        self._search = job.searcher.start(predictions.outranking, self.settings)
        self._on_search = evaluate(job.table, members, images, {})
        suspects = describe_suspects(self._on_search, images.labels, images.classes)
        for suspect in suspects:
            self._progress.say(f"warning: {suspect}")
        self._notes = [*predictions.notes, *suspects]

    def note(self, sentence: str) -> None:
        """Say something that a reader of the report should know, too."""
        self._progress.say(sentence)
        self._notes.append(sentence)

    def wait(self) -> Fitted:
        """Wait for the weights and the depths."""
        with self._progress.stage("search"):
            outcome = self._search.result()
        return Fitted(outcome, self._on_search, self._depths.result(), tuple(self._notes))


def _choose_base(
    config: SubclassifiersConfig, predictions: Predictions, search: _RunningSearch
) -> Member | None:
    """Choose the member that is fine-tuned; note where there is none, or where it is not the best one."""
    order = [predictions.members[i] for i in best_first(predictions.outranking, search.settings)]
    base = next(iter(_possible_bases(config, order, search.settings)), None)
    if base is None:
        search.note(_why_no_subclassifiers(predictions, search.settings))
    elif config.base is None and (why := why_no_base(order[0])):
        search.note(
            f"{order[0].name} is the best member, and cannot be fine-tuned: {why} Sub-classifiers are made "
            f"of {base.name}."
        )
    return base


def _possible_bases(
    config: SubclassifiersConfig, members: Sequence[Member], settings: SearchConfig
) -> list[Member]:
    """List the members that can be fine-tuned: the one in the settings, or all of them.

    Members without a last linear layer, as programs are, are left aside: nothing of them can be
    fine-tuned.

    Under a cost bound, members are left aside whose sub-classifiers could not be used whatever
    answers first. A sub-classifier is its base with fewer outputs: it is reckoned at half the cost here,
    so that none is left aside that could be used after all.
    """
    costs = settings.costs

    def could_be_used(member: Member) -> bool:
        if settings.max_cost is None:
            return True
        first = costs[member.name] if config.base else min(costs.values())
        return first + costs[member.name] / 2 <= settings.max_cost

    return [
        member
        for member in members
        if config.base in (None, member.name) and not why_no_base(member) and could_be_used(member)
    ]


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
