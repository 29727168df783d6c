"""Decisions of a person: a night becomes the baseline, or an alert is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.nightly.deployment import evaluate
from ensemble.nightly.verdict import nightly_level
from ensemble.report.documents.nightly import (
    Accept,
    Acknowledge,
    Comparison,
    Figure,
    Night,
    RowResult,
    VaultLine,
)
from ensemble.storage.open import open_store
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from jobs.nightly.alerts import replay
from jobs.nightly.baselines import (
    MUST_MATCH_ALWAYS,
    Baseline,
    anchor_of,
    differences,
    vault_of,
    vault_openings,
)
from jobs.nightly.candidate import Say, Workers, conditions, watch_and_vault
from jobs.nightly.history import History, append, read_history, read_outcomes, write_outcomes
from jobs.nightly.night import TABLE, without_bad
from jobs.nightly.suite import RowConfig, SuiteConfig
from jobs.nightly.verdicts import compare, decide, figures_of
from jobs.stored_runs.tables import hold_if_shared


@dataclass(frozen=True)
class Decision:
    """Who decided what about the last night.

    Attributes:
        rows: Names of the rows whose baseline is to move; all of the suite if empty.
        anchor: Why the anchor moves, too; None where it stays.
        by: Who decided.
    """

    rows: tuple[str, ...] = ()
    anchor: str | None = None
    by: str = ""


def accept(
    suite: SuiteConfig, decision: Decision, workers: Workers, say: Say
) -> tuple[int, Accept]:
    """Make the last night the baseline of rows; the vault is opened where a row has one.

    Returns:
        The number of the record, and the record.

    Raises:
        ConfigError: There is no such night or row, the row was not judged, or it has lost more against the
            anchor, or in the vault, than may pass.
    """
    store = open_store(suite.folder, suite.storage)
    with hold_if_shared(
        open_store(f"{suite.folder}/{TABLE}", suite.storage), suite.storage, say
    ) as lease:
        history = read_history(store)
        number, night = _last_night(history)
        rows = _rows(suite, decision.rows)
        losses: dict[str, float] = {}
        for row in rows:
            losses |= _cumulative_loss(history, row, _judged(night, row.name), decision, say)
        table = LogitTable(
            open_store(f"{suite.folder}/{TABLE}", suite.storage), suite.table.dtype, lease
        )
        vault = tuple(
            _open_vault(suite, store, table, history, row, _judged(night, row.name), workers, say)
            for row in rows
            if row.vault
        )
        bad = [line for line in vault if line.comparison and line.comparison.verdict == "regressed"]
        is_refused = bool(bad) and decision.anchor is None
        record = Accept(
            night=number,
            # An opening counts, whatever comes of it.
            rows=() if is_refused else tuple(row.name for row in rows),
            is_anchor=decision.anchor is not None,
            reason=decision.anchor or "",
            by=decision.by,
            cumulative_loss=losses,
            vault=vault,
        )
        written = append(store, record, number)
    if is_refused:
        raise ConfigError(
            f"the vault refuses {', '.join(line.row for line in bad)}: "
            f"{'; '.join(_describe(line) for line in bad)}. The opening is recorded and charged. The watch set has "
            'worn out, or the change does harm: undo it, or say why it is right with --anchor "REASON".'
        )
    return written, record


def acknowledge(
    suite: SuiteConfig, alert: str, until: date, reason: str = "", by: str = ""
) -> tuple[int, Acknowledge]:
    """Let an alert count no more until after a date.

    Raises:
        UnknownNameError: No such alert is open.
    """
    store = open_store(suite.folder, suite.storage)
    history = read_history(store)
    keys = [a.key for a in replay(history) if a.state != "resolved"]
    if alert not in keys:
        if not keys:
            raise ConfigError(f"cannot acknowledge {alert!r}: no alert is open.")
        raise UnknownNameError.of("open alert", alert, keys)
    record = Acknowledge(alert=alert, until=until, reason=reason, by=by)
    return append(store, record), record


def _last_night(history: History) -> tuple[int, Night]:
    if history.last is None:
        raise ConfigError(
            "there is no night to accept yet. Run one first: `ensemble nightly SUITE`."
        )
    return history.last


def _rows(suite: SuiteConfig, names: Sequence[str]) -> list[RowConfig]:
    by_name = {row.name: row for row in suite.rows}
    for name in names:
        if name not in by_name:
            raise UnknownNameError.of("row", name, by_name)
    return [by_name[name] for name in names or by_name]


def _judged(night: Night, name: str) -> RowResult:
    row = night.row(name)
    if row is None or row.error:
        why = f": {row.error}" if row else " yet"
        raise ConfigError(
            f"cannot accept the row {name!r}: the last night, of {night.date}, did not judge it{why}. Run a "
            "night that does, or name other rows with --row."
        )
    if row.is_worthless:
        raise ConfigError(
            f"cannot accept the row {name!r}: the canary of the night of {night.date} was not found, so the "
            "night shows nothing. See why, and run another night."
        )
    return row


def _cumulative_loss(
    history: History, row: RowConfig, tonight: RowResult, decision: Decision, say: Say
) -> dict[str, float]:
    """Tell what has been lost since the anchor, and refuse to let more pass than the suite allows."""
    anchor = anchor_of(history, row.name)
    assert tonight.conditions is not None
    if anchor is None or anchor.row.conditions is None:
        return {}
    differing = differences(anchor.row.conditions, tonight.conditions, MUST_MATCH_ALWAYS)
    if differing:
        if decision.anchor is None:
            raise ConfigError(
                f"cannot accept the row {row.name!r} alone: it is not comparable with its anchor, record "
                f'{anchor.number} ({differing}). Move the anchor, too, and say why: --anchor "REASON".'
            )
        return {}
    losses = {}
    for gate in row.gates:
        old, new = anchor.row.figure(gate.metric), tonight.figure(gate.metric)
        if old is None or new is None or not gate.is_of_outcomes:
            continue
        loss = losses[f"{row.name}/{gate.metric}"] = new.value - old.value
        say(
            f"{row.name}/{gate.metric}: {loss / gate.unit:+.3g} against the anchor, record {anchor.number}; at "
            f"most {gate.most / gate.unit:.3g} may add up"
        )
        if gate.role == "gate" and loss > gate.most and decision.anchor is None:
            raise ConfigError(
                f"cannot accept the row {row.name!r}: its {gate.metric} has lost {loss / gate.unit:.3g} since the "
                f"anchor, record {anchor.number}, and max_cumulative_loss is {gate.most / gate.unit:.3g}. Win it "
                'back, or move the anchor and say why: --anchor "REASON".'
            )
    return losses


def _open_vault(
    suite: SuiteConfig,
    store: Store,
    table: LogitTable,
    history: History,
    row: RowConfig,
    tonight: RowResult,
    workers: Workers,
    say: Say,
) -> VaultLine:
    """Judge what was accepted on images that no night has shown."""
    say(f"{row.name}: opening the vault, {row.vault} images")
    candidate = workers.candidate(row, say)
    if candidate.deployment.identity != tonight.identity:
        raise ConfigError(
            f"cannot accept the row {row.name!r}: what is deployed has changed since the last night. Run a night "
            "of it first."
        )
    _, images = watch_and_vault(row, candidate.images)
    workers.fill(table, row, candidate, images.image_ids.tolist())
    images, _ = without_bad(table, candidate, images)
    outcomes = evaluate(table, candidate.deployment, images)
    figures = figures_of(outcomes, row.gates)
    line = VaultLine(
        row=row.name,
        n=len(images),
        outcomes=write_outcomes(store, outcomes),
        identity=tonight.identity,
        conditions=conditions(row, candidate, images, table),
        figures=figures,
    )
    last = vault_of(history, row.name)
    if last is None:
        return line
    gates = [gate for gate in row.gates if gate.role == "gate" and gate.is_of_outcomes][:1]
    old, new = (
        RowResult(
            name=row.name,
            identity=part.identity,
            outcomes=part.outcomes,
            conditions=part.conditions,
        )
        for part in (last, line)
    )
    before = {last.outcomes: read_outcomes(store, last.outcomes)}
    baseline = Baseline("accepted", 1, old)
    chosen = row.model_copy(update={"gates": tuple(gates)})
    decided, pending = compare(chosen, new, outcomes, before, [baseline])
    level = nightly_level(
        suite.false_alarms_per_year, suite.nights_per_year, vault_openings(history) + 1
    )
    comparisons: list[Comparison] = [*decided, *decide(pending, level)]
    return line.model_copy(update={"comparison": comparisons[0] if comparisons else None})


def _describe(line: VaultLine) -> str:
    comparison = line.comparison
    assert comparison is not None
    figure: Figure = next(f for f in line.figures if f.metric == comparison.metric)
    return (
        f"{comparison.metric} is {figure.value:.4g} on {line.n} images that nothing was chosen on, "
        f"{comparison.loss or 0.0:+.4g} against the vault of the accepted night (p = {comparison.p or 0.0:.2g})"
    )
