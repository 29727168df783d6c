"""The verdicts of a night: each row's figures against its baselines, all of them under one budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from jaxtyping import Int

from ensemble.nightly.members import MemberChange
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.paired import Evidence
from ensemble.nightly.verdict import Verdict, collect, drift, figure, judge, top_k
from ensemble.report.documents.nightly import Comparison, Figure, RowResult
from jobs.nightly.baselines import MUST_MATCH_ALWAYS, OF_TIME, Baseline, differences
from jobs.nightly.history import History
from jobs.nightly.suite import MEMBER_ERROR, SECONDS, GateConfig, RowConfig

# Times are compared with the median of as many measurements as this.
_TIMES = 5
_Z95 = 1.96


@dataclass(frozen=True)
class Pending:
    """A comparison that waits for those of the other rows, because they share one budget.

    Attributes:
        row: Name of the row.
        gate: The gate.
        baseline: The baseline.
        evidence: What the images say.
        part: Name of the member that is compared with itself; empty for a figure of the ensemble.
    """

    row: str
    gate: GateConfig
    baseline: Baseline
    evidence: Evidence
    part: str = ""


def figures_of(outcomes: Outcomes, gates: Sequence[GateConfig]) -> tuple[Figure, ...]:
    """Compute the figures of a row, with the intervals that a trend shows; top-1 error and NLL are always there."""
    metrics = ["top1_error", "nll", *(gate.metric for gate in gates if gate.is_of_outcomes)]
    return tuple(_figure(metric, outcomes) for metric in dict.fromkeys(metrics))


def compare(
    row: RowConfig,
    tonight: RowResult,
    outcomes: Outcomes,
    before: Mapping[str, Outcomes],
    baselines: Sequence[Baseline],
    groups: Int[np.ndarray, "image"] | None = None,
) -> tuple[list[Comparison], list[Pending]]:
    """Compare a row with its baselines, as far as nothing has to be tested.

    Args:
        row: The settings of the row.
        tonight: The row's result so far.
        outcomes: Tonight's outcomes.
        before: Outcomes of the baselines, by their SHA-256.
        baselines: The baselines.
        groups: Number of the group of near-duplicates of each image.

    Returns:
        What is decided, and what `decide` has to decide together with the other rows.
    """
    decided, pending = [], []
    for baseline in baselines:
        old = baseline.row
        differing = differences_of(baseline, tonight, row)
        is_same = old.identity == tonight.identity
        for gate in row.gates:
            if not gate.is_of_outcomes:
                continue
            if differing:
                decided.append(_comparison(gate, baseline, "not_comparable", reason=differing))
            elif is_same and old.outcomes == tonight.outcomes:
                decided.append(_comparison(gate, baseline, "identical", loss=0.0))
            elif is_same:
                there = before[old.outcomes or ""]
                loss = figure(gate.metric, outcomes) - figure(gate.metric, there)
                reason = drift(there, outcomes).describe()
                decided.append(_comparison(gate, baseline, "drift", loss=loss, reason=reason))
            else:
                evidence = collect(gate.metric, before[old.outcomes or ""], outcomes, groups)
                pending.append(Pending(row.name, gate, baseline, evidence))
    return decided, pending


def decide(pending: Sequence[Pending], level: float) -> list[Comparison]:
    """Decide all tested comparisons of a night; those that are only watched take nothing of the budget.

    Args:
        pending: The comparisons of all rows.
        level: Chance of a false alarm that the night may take.

    Returns:
        A comparison for each pending one, in their order.
    """
    by_index: dict[int, Comparison] = {}
    for role in ("gate", "watch"):
        chosen = [i for i, entry in enumerate(pending) if entry.gate.role == role]
        least = [_least(pending[i]) for i in chosen]
        if not chosen:
            continue
        judgements = judge([pending[i].evidence for i in chosen], least, level)
        for i, judgement in zip(chosen, judgements, strict=True):
            entry, evidence = pending[i], pending[i].evidence
            by_index[i] = _comparison(
                entry.gate,
                entry.baseline,
                judgement.verdict,
                loss=evidence.loss,
                low=evidence.low,
                high=evidence.high,
                p=evidence.p_worse,
                newly_wrong=evidence.newly_wrong,
                newly_right=evidence.newly_right,
                num_images_needed=judgement.num_images_needed,
                part=entry.part,
            )
    return [by_index[i] for i in range(len(pending))]


def compare_outcomes(
    before: Outcomes, after: Outcomes, gates: Sequence[GateConfig], level: float
) -> list[Comparison]:
    """Compare two outcomes on the same images, whatever they are of.

    Args:
        before: Outcomes of the first.
        after: Outcomes of the second.
        gates: Figures, and the least loss of each that matters.
        level: Chance of calling a difference that is none.
    """
    baseline = Baseline("accepted", 1, RowResult(name="compare"))
    if before.sha256 == after.sha256:
        return [_comparison(gate, baseline, "identical", loss=0.0) for gate in gates]
    pending = [
        Pending("compare", gate, baseline, collect(gate.metric, before, after)) for gate in gates
    ]
    return decide(pending, level)


def compare_members(
    row: RowConfig,
    tonight: RowResult,
    changes: Sequence[MemberChange],
    baselines: Sequence[Baseline],
) -> tuple[list[Comparison], list[Pending]]:
    """Compare the changed members with themselves at the accepted baseline, where the row has a gate for them.

    Args:
        row: The settings of the row.
        tonight: The row's result so far.
        changes: The changed members that both have.
        baselines: The baselines.

    Returns:
        What is decided, and what `decide` has to decide together with the other rows: one for each member.
    """
    gate = next((gate for gate in row.gates if gate.metric == MEMBER_ERROR), None)
    accepted = next((b for b in baselines if b.name == "accepted"), None)
    if gate is None or accepted is None:
        return [], []
    differing = differences_of(accepted, tonight, row)
    if differing:
        return [_comparison(gate, accepted, "not_comparable", reason=differing)], []
    if not changes:
        reason = "no member that both have has changed"
        return [_comparison(gate, accepted, "identical", loss=0.0, reason=reason)], []
    return [], [
        Pending(row.name, gate, accepted, change.summary, change.name) for change in changes
    ]


def differences_of(baseline: Baseline, tonight: RowResult, row: RowConfig) -> str:
    """Tell which conditions that must match differ from a baseline's; nothing where all of them are the same."""
    assert baseline.row.conditions is not None
    assert tonight.conditions is not None
    fields = [*MUST_MATCH_ALWAYS, *row.must_match]
    return differences(baseline.row.conditions, tonight.conditions, fields)


def compare_times(
    row: RowConfig, tonight: RowResult, history: History, baselines: Sequence[Baseline]
) -> list[Comparison]:
    """Compare the seconds an image: slower than the median of the last nights, two nights in a row, alarms.

    One night that is slower is `inconclusive`: the next one confirms it or not.
    """
    gate = next((gate for gate in row.gates if gate.metric == SECONDS), None)
    now = tonight.figure(SECONDS)
    accepted = next((b for b in baselines if b.name == "accepted"), None)
    if gate is None or now is None or accepted is None:
        return []
    assert tonight.conditions is not None
    assert accepted.row.conditions is not None
    differing = differences(accepted.row.conditions, tonight.conditions, OF_TIME)
    if differing:
        return [_comparison(gate, accepted, "not_comparable", reason=differing)]
    times = [
        value.value
        for number, night in history.nights()
        if number >= accepted.number
        and (result := night.row(row.name)) is not None
        and (value := result.figure(SECONDS)) is not None
    ]
    if not times:
        return []
    # Nights that were slow already are no part of what is usual.
    slow_before = _last_was_slow(history, row.name)
    usual = median((times[:-1] if slow_before and len(times) > 1 else times)[-_TIMES:])
    loss = now.value / usual - 1
    slow: Verdict = "regressed" if slow_before else "inconclusive"
    verdict: Verdict = "ok" if loss < gate.least else slow
    reason = "" if verdict != "inconclusive" else "slower tonight; a second night in a row alarms"
    return [
        Comparison(
            metric=SECONDS,
            is_gate=gate.role == "gate",
            baseline="accepted",
            baseline_record=accepted.number,
            verdict=verdict,
            min_effect=gate.least,
            loss=loss,
            reason=reason,
        )
    ]


def _last_was_slow(history: History, row: str) -> bool:
    if history.last is None or (result := history.last[1].row(row)) is None:
        return False
    return any(
        c.metric == SECONDS and c.verdict in ("inconclusive", "regressed")
        for c in result.comparisons
    )


def _least(pending: Pending) -> float:
    """Against the anchor a loss matters once it exceeds what `accept` lets add up."""
    is_anchor = pending.baseline.name == "anchor"
    return pending.gate.most if is_anchor else pending.gate.least


def _comparison(
    gate: GateConfig, baseline: Baseline, verdict: Verdict, **values: object
) -> Comparison:
    return Comparison.model_validate(
        {
            "metric": gate.metric,
            "is_gate": gate.role == "gate",
            "baseline": baseline.name,
            "baseline_record": baseline.number,
            "verdict": verdict,
            "min_effect": gate.most if baseline.name == "anchor" else gate.least,
            **values,
        }
    )


def _figure(metric: str, outcomes: Outcomes) -> Figure:
    value, n = figure(metric, outcomes), len(outcomes)
    if top_k(metric) is not None:
        # Wilson's interval: it stays inside 0 and 1, and has a width where there is no error.
        centre = (value + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
        half = (
            _Z95
            / (1 + _Z95**2 / n)
            * float(np.sqrt(value * (1 - value) / n + _Z95**2 / (4 * n * n)))
        )
        return Figure(metric=metric, value=value, low=max(0.0, centre - half), high=centre + half)
    if metric == "nll" and n > 1:
        half = _Z95 * float(outcomes.losses.std(ddof=1)) / n**0.5
        return Figure(metric=metric, value=value, low=value - half, high=value + half)
    return Figure(metric=metric, value=value)
