"""One night: every row judged, compared, explained, and written down as one record."""

import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import FrameType

import numpy as np

from ensemble.errors import ClusterError, ConfigError, DataError, ProjectError
from ensemble.images.index import ImageIndex
from ensemble.images.split import stratified_sample
from ensemble.nightly.deployment import evaluate
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.stream import EDetector
from ensemble.nightly.verdict import nightly_level
from ensemble.report.documents.nightly import (
    Figure,
    Night,
    RowResult,
    StreamState,
)
from ensemble.storage.open import open_store
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from jobs.nightly.baselines import (
    MUST_MATCH_ALWAYS,
    baselines,
    differences,
    vault_openings,
)
from jobs.nightly.canary import try_canary
from jobs.nightly.candidate import (
    Candidate,
    Say,
    Workers,
    conditions,
    read_groups,
    watch_and_vault,
)
from jobs.nightly.draft import Draft
from jobs.nightly.explain import explain, member_changes, name_worse_members
from jobs.nightly.history import (
    History,
    append,
    read_history,
    read_outcomes,
    write_outcomes,
)
from jobs.nightly.proposal import propose
from jobs.nightly.suite import SECONDS, RowConfig, SuiteConfig
from jobs.nightly.verdicts import compare, compare_members, compare_times, decide, figures_of
from jobs.stored_runs.tables import hold_if_shared

TABLE = "table"


def night(
    suite: SuiteConfig, on: date, workers: Workers, say: Say, *, is_smoke: bool = False
) -> tuple[int, Night]:
    """Do a night, and write its record; a night that was killed goes on with what it had predicted.

    Args:
        suite: Checked settings.
        on: Date that the night is of.
        workers: Whoever finds and predicts.
        say: Prints a line.
        is_smoke: Judge a few images only; the record counts for no baseline and no alert.

    Returns:
        The number of the record, and the record.

    Raises:
        ConfigError: The date has a night already.
        TableBusyError: Another night is under way.
        ProjectError: Nothing of the suite can be read or written.
    """
    began = time.perf_counter()
    store = open_store(suite.folder, suite.storage)
    table_store = open_store(f"{suite.folder}/{TABLE}", suite.storage)
    with hold_if_shared(table_store, suite.storage, say) as lease:
        history = read_history(store)
        if not is_smoke:
            refuse_second_night(history, on)
        table = LogitTable(table_store, suite.table.dtype, lease)
        level = nightly_level(
            suite.false_alarms_per_year, suite.nights_per_year, vault_openings(history)
        )
        drafts = []
        for row in suite.rows:
            say(f"{row.name}: judging")
            context = _Context(suite, store, table, history, workers, say, is_smoke, level)
            drafts.append(_try_row(context, row))
        results = _decide(suite, table, drafts, level)
        record = Night(
            suite=suite.name or "suite",
            date=on,
            is_smoke=is_smoke,
            level=level,
            num_compared=sum(len(draft.pending) for draft in drafts),
            rows=tuple(results),
            host=socket.gethostname(),
            seconds=time.perf_counter() - began,
        )
        return append(store, record, history.records[-1].number if history.records else 0), record


def refuse_second_night(history: History, on: date) -> None:
    """Refuse a date that has a night already; one with rows that were not judged may be done again.

    Raises:
        ConfigError: The date has a night.
    """
    for number, record in history.nights():
        if record.date == on and not any(row.error for row in record.rows):
            raise ConfigError(
                f"the night of {on} is there already: record {number}. One record a date is kept; give another "
                "--date, or look at the pages."
            )


@dataclass(frozen=True)
class _Context:
    suite: SuiteConfig
    store: Store
    table: LogitTable
    history: History
    workers: Workers
    say: Say
    is_smoke: bool
    level: float


def _try_row(context: _Context, row: RowConfig) -> Draft:
    """Judge a row; one that fails makes the night partial, and leaves the other rows alone."""
    try:
        with _time_limit(row):
            return _judge_row(context, row)
    except ProjectError as error:
        context.say(f"{row.name}: {type(error).__name__}: {error}")
        failed = RowResult(name=row.name, owner=row.owner, error=f"{type(error).__name__}: {error}")
        return Draft(failed, [])


def _judge_row(context: _Context, row: RowConfig) -> Draft:
    began = time.perf_counter()
    candidate = context.workers.candidate(row, context.say)
    watch, _ = watch_and_vault(row, candidate.images)
    if context.is_smoke:
        watch = stratified_sample(watch, row.smoke.images, row.seed)
    table = context.table
    passes = context.workers.fill(table, row, candidate, watch.image_ids.tolist())
    watch, notes = without_bad(table, candidate, watch)
    outcomes = evaluate(table, candidate.deployment, watch)
    where = conditions(row, candidate, watch, table)
    known = () if context.is_smoke else baselines(context.history, row.name)
    before = {
        b.row.outcomes: read_outcomes(context.store, b.row.outcomes)
        for b in known
        if b.row.outcomes and b.row.outcomes != outcomes.sha256
    }
    good = outcomes
    for baseline in known:
        old = baseline.row.conditions
        if baseline.name == "accepted" and old and not differences(old, where, MUST_MATCH_ALWAYS):
            good = before.get(baseline.row.outcomes or "", outcomes)
    canary = try_canary(
        context.workers,
        table,
        row,
        candidate,
        watch,
        context.suite.canary_images,
        context.level,
        good,
    )
    figures = figures_of(outcomes, row.gates)
    if any(gate.metric == SECONDS for gate in row.gates):
        figures = (*figures, Figure(metric=SECONDS, value=canary.seconds_per_image))
    result = RowResult(
        name=row.name,
        owner=row.owner,
        document=candidate.deployment.document,
        parts=candidate.parts,
        conditions=where,
        identity=candidate.deployment.identity,
        outcomes=write_outcomes(context.store, outcomes),
        n=len(watch),
        figures=figures,
        canary=canary,
        forward_passes=passes,
        seconds=time.perf_counter() - began,
        notes=(*candidate.notes, *notes),
    )
    if context.is_smoke:
        return Draft(result, [], candidate, watch, outcomes)
    last = context.history.last and context.history.last[1].row(row.name)
    is_as_before = last is not None and last.outcomes == result.outcomes
    proposal = (
        last.proposal
        if last is not None and is_as_before
        else propose(table, candidate, watch, outcomes)
    )
    result = result.model_copy(update={"proposal": proposal})
    if row.stream is not None:
        state = _stream(context, row, watch, outcomes, result)
        return Draft(result.model_copy(update={"stream": state}), [], candidate, watch, outcomes)
    groups = read_groups(row, watch)
    decided, pending = compare(row, result, outcomes, before, known, groups)
    changes = member_changes(table, candidate.deployment, watch, result, known, groups)
    of_members, pending_members = compare_members(row, result, changes, known)
    decided += [*of_members, *compare_times(row, result, context.history, known)]
    result = result.model_copy(update={"comparisons": tuple(decided)})
    pending += pending_members
    return Draft(result, pending, candidate, watch, outcomes, known, changes)


def without_bad(
    table: LogitTable, candidate: Candidate, images: ImageIndex
) -> tuple[ImageIndex, tuple[str, ...]]:
    """Leave out the images that cannot be decoded, and say which."""
    bad = {image.image_id for image in table.bad_images(candidate.deployment.columns.values())}
    bad &= set(images.image_ids.tolist())
    if not bad:
        return images, ()
    kept = images.take(np.flatnonzero([i not in bad for i in images.image_ids.tolist()]))
    named = ", ".join(sorted(bad)[:5])
    return kept, (f"{len(bad)} images cannot be decoded and are left out: {named}",)


def _stream(
    context: _Context, row: RowConfig, watch: ImageIndex, outcomes: Outcomes, result: RowResult
) -> StreamState:
    """Add tonight's fresh images to the evidence of the e-detector.

    Raises:
        DataError: The images were judged on an earlier night.
    """
    assert row.stream is not None
    assert result.conditions is not None
    state, accepted = EDetector(row.stream.average_run_length), 0
    for number, accept in context.history.accepts():
        accepted = number if row.name in accept.rows else accepted
    reference = context.workers.reference(row, context.say)
    for number, earlier in context.history.nights():
        there = earlier.row(row.name)
        if there is None or there.stream is None or there.conditions is None:
            continue
        if there.conditions.images == result.conditions.images:
            raise DataError(
                f"the images of the stream {row.name!r} are those of the night of {earlier.date} (record "
                f"{number}). A stream needs images that no night has seen: name the new ones, or remove "
                "`stream` to compare on a fixed set."
            )
        if number > accepted and there.stream.reference == reference.deployment.identity:
            state = EDetector(
                row.stream.average_run_length,
                there.stream.evidence,
                there.stream.images,
                there.stream.alarmed_at,
            )
    context.workers.fill(context.table, row, reference, watch.image_ids.tolist())
    theirs = evaluate(context.table, reference.deployment, watch).is_error(1)
    ours = outcomes.is_error(1)
    state = state.update(np.where(ours, 1, -1)[ours != theirs].tolist())
    return StreamState(
        reference=reference.deployment.identity,
        average_run_length=state.average_run_length,
        evidence=state.evidence,
        images=state.images,
        alarmed_at=state.alarmed_at,
    )


def _decide(
    suite: SuiteConfig,
    table: LogitTable,
    drafts: Sequence[Draft],
    level: float,
) -> list[RowResult]:
    """Decide the comparisons of all rows together, then explain those whose figures changed."""
    pending = [entry for draft in drafts for entry in draft.pending]
    comparisons = decide(pending, level)
    results, start = [], 0
    for row, draft in zip(suite.rows, drafts, strict=True):
        stop = start + len(draft.pending)
        order = [gate.metric for gate in row.gates]
        own = sorted(
            [*draft.result.comparisons, *comparisons[start:stop]],
            key=lambda c: (c.baseline, order.index(c.metric), c.part),
        )
        start = stop
        result = draft.result.model_copy(update={"comparisons": tuple(own)})
        update = {
            "explanation": explain(suite, row, table, draft, own),
            "worse_members": name_worse_members(draft, level),
        }
        results.append(result.model_copy(update=update))
    return results


@contextmanager
def _time_limit(row: RowConfig) -> Iterator[None]:
    """Give a row up after its time; only the main thread can be interrupted.

    Raises:
        ClusterError: The time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise ClusterError(
            f"the row {row.name!r} took more than {row.timeout_minutes:g} minutes and was given up for tonight. "
            "What it predicted is kept; raise `timeout_minutes`, or see what keeps it."
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, row.timeout_minutes * 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
