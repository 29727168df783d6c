"""What follows from the records and is written beside them: pages, Markdown, JUnit's XML, and a Parquet table."""

import io
from collections.abc import Sequence

from ensemble.nightly.verdict import VERDICTS
from ensemble.report.documents.nightly import ClassLine, Comparison, Night, RowResult
from ensemble.report.pages.nightly import (
    AlertLine,
    ComparisonLine,
    ImageTile,
    IndexView,
    NightLink,
    NightRow,
    NightView,
    Point,
    RowLine,
    Rule,
    Series,
    Trend,
    draw,
    render_index,
    render_night,
)
from ensemble.storage.store import Store
from jobs.nightly.alerts import Alert, replay
from jobs.nightly.baselines import baselines
from jobs.nightly.history import INDEX, JUNIT, MARKDOWN, PAGES, TABLE_FILE, History
from jobs.nightly.suite import MEMBER_ERROR
from jobs.nightly.text import (
    describe_alert,
    describe_comparison,
    describe_worse_member,
    junit,
    loss_text,
    markdown,
    value_text,
)

_MOST_LINKS = 400
_MOST_ALERTS = 40


def write_pages(store: Store, history: History, number: int, suite: str) -> None:
    """Write everything that is derived: the page of one night, and what tells of all nights.

    Args:
        store: Store of the suite's folder.
        history: All records.
        number: Number of the night's record.
        suite: Name of the suite.
    """
    night, alerts = history.night(number), replay(history)
    store.replace(page_key(number), render_night(night_view(number, night)).encode())
    if not night.is_smoke:
        store.replace(MARKDOWN, markdown(number, night, alerts).encode())
        store.replace(JUNIT, junit(night))
        store.replace(TABLE_FILE, table_of(history))
    write_index(store, history, suite)


def write_index(store: Store, history: History, suite: str) -> None:
    """Write the index anew, as after somebody accepted a night."""
    store.replace(INDEX, render_index(index_view(history, suite)).encode())


def page_key(number: int) -> str:
    """Name the page of a night."""
    return f"{PAGES}/{number:06d}.html"


def verdict_of(row: RowResult) -> str:
    """Give the most urgent verdict of a row's gates."""
    if row.error:
        return "not judged"
    if row.is_worthless:
        return "worth nothing"
    gates = {c.verdict for c in row.comparisons if c.is_gate}
    if row.stream is not None:
        return "regressed" if row.stream.alarmed_at is not None else "ok"
    return next((verdict for verdict in VERDICTS if verdict in gates), "first night")


def verdict_of_night(night: Night) -> str:
    """Give the most urgent verdict of a night."""
    order = ["regressed", "not judged", "worth nothing", *VERDICTS[1:], "first night"]
    verdicts = {verdict_of(row) for row in night.rows}
    return next(verdict for verdict in order if verdict in verdicts)


def index_view(history: History, suite: str) -> IndexView:
    """Gather what the index shows."""
    alerts = replay(history)
    current = [a for a in alerts if a.state != "resolved"]
    last = history.last
    status = "No night yet."
    kind, budget = "first night", ""
    if last is not None:
        night = last[1]
        kind = verdict_of_night(night)
        status = (
            f"{len(current)} alert{'s' * (len(current) != 1)} on the night of {night.date}."
            if current
            else f"No alert on the night of {night.date}."
        )
        tested = sum(n.num_compared for _, n in history.nights())
        budget = (
            f"{sum(1 for _ in history.nights())} nights, {tested} comparisons tested. A night takes a chance of "
            f"{night.level:.2g} of a false alarm, all its comparisons together (Holm's rule). On a fixed set of "
            "images nights are no new data, so each is compared with pinned baselines."
        )
    ordered = [*current, *reversed([a for a in alerts if a.state == "resolved"])]
    return IndexView(
        suite=suite,
        status=status,
        status_kind=kind,
        budget=budget,
        alerts=tuple(AlertLine(a.key, a.state, describe_alert(a)) for a in ordered[:_MOST_ALERTS]),
        rows=tuple(_row_line(history, row) for row in last[1].rows) if last else (),
        nights=tuple(
            NightLink(number, str(night.date), verdict_of_night(night), page_key(number))
            for number, night in reversed(list(history.nights()))
        )[:_MOST_LINKS],
    )


def night_view(number: int, night: Night) -> NightView:
    """Gather what the page of a night shows."""
    passes = sum(row.forward_passes for row in night.rows)
    return NightView(
        suite=night.suite,
        date=f"{night.date}{', a trial' if night.is_smoke else ''}",
        number=number,
        verdict=verdict_of_night(night),
        lead=(
            f"{night.num_compared} comparisons tested, {passes} forward passes, {night.seconds:.0f} s on "
            f"{night.host}."
        ),
        rows=tuple(_night_row(row) for row in night.rows),
    )


def table_of(history: History) -> bytes:
    """Write the history as a Parquet table: one line a night, row, figure and baseline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = []
    for number, night in history.nights():
        for row in night.rows:
            for figure in row.figures:
                compared = [c for c in row.comparisons if c.metric == figure.metric]
                lines += [
                    _line(number, night, row, figure.metric, c) for c in (compared or (None,))
                ]
    schema = pa.schema(
        [
            ("record", pa.int64()),
            ("date", pa.date32()),
            ("row", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("n", pa.int64()),
            ("baseline", pa.string()),
            ("verdict", pa.string()),
            ("loss", pa.float64()),
            ("p", pa.float64()),
            ("identity", pa.string()),
            ("commit", pa.string()),
        ]
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines, schema=schema), buffer)
    return buffer.getvalue()


def _line(
    number: int, night: Night, row: RowResult, metric: str, compared: Comparison | None
) -> dict[str, object]:
    figure = row.figure(metric)
    assert figure is not None
    return {
        "record": number,
        "date": night.date,
        "row": row.name,
        "metric": metric,
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": row.n,
        "baseline": compared.baseline if compared else None,
        "verdict": compared.verdict if compared else None,
        "loss": compared.loss if compared else None,
        "p": compared.p if compared else None,
        "identity": row.identity,
        "commit": row.conditions.commit if row.conditions else None,
    }


def _row_line(history: History, row: RowResult) -> RowLine:
    nights = [
        (number, night, result)
        for number, night in history.nights()
        if (result := night.row(row.name)) is not None and not result.error
    ]
    gates = [c.metric for c in row.comparisons if c.is_gate and c.metric != MEMBER_ERROR]
    metrics = dict.fromkeys([*gates, *(figure.metric for figure in row.figures)])
    trends: list[Trend] = []
    for metric in metrics:
        trends += _trends(history, row.name, metric, nights)
    return RowLine(
        name=row.name,
        owner=row.owner,
        verdict=verdict_of(row),
        figures=tuple((f.metric, value_text(f.metric, f.value)) for f in row.figures),
        trends=tuple(trends),
        notes=tuple(note for note in (row.error, row.proposal, *row.notes) if note),
    )


def _trends(
    history: History, name: str, metric: str, nights: Sequence[tuple[int, Night, RowResult]]
) -> list[Trend]:
    factor, unit = {"nll": (1.0, "nats"), "seconds": (1000.0, "ms")}.get(metric, (100.0, "%"))
    points, against_last, against_anchor = [], [], []
    before: RowResult | None = None
    for number, night, row in nights:
        figure = row.figure(metric)
        accepted = [c for c in row.comparisons if c.metric == metric and c.baseline == "accepted"]
        anchors = [c for c in row.comparisons if c.metric == metric]
        points.append(
            Point(
                label=str(night.date),
                value=figure.value if figure else None,
                low=figure.low if figure else None,
                high=figure.high if figure else None,
                verdict=accepted[0].verdict if accepted else "identical",
                is_new=before is not None and before.identity != row.identity,
                number=number,
            )
        )
        last = before.figure(metric) if before else None
        against_last.append(figure.value - last.value if figure and last else None)
        anchor = next((c for c in anchors if c.baseline == "anchor"), None) or (
            anchors[0] if anchors else None
        )
        against_anchor.append(anchor.loss if anchor else None)
        before = row
    known = baselines(history, name)
    rules = [
        Rule(value.value, b.name, f"{b.name} baseline, record {b.number}")
        for b in known
        if (value := b.row.figure(metric)) is not None
    ]
    charts = [
        draw(
            f"{metric}, {unit}; band: 95 % interval, dashed: baselines, dotted: the ensemble changed",
            points,
            [Series(metric, "value", [p.value for p in points])],
            rules,
            unit,
            factor,
        )
    ]
    has_losses = any(loss is not None for loss in against_anchor)
    if has_losses and metric != "seconds" and len(points) > 1:
        least = next(
            (
                c.min_effect
                for c in nights[-1][2].comparisons
                if c.metric == metric and c.baseline == (known[-1].name if known else "accepted")
            ),
            None,
        )
        plain = [Point(p.label, p.value, None, None, p.verdict, p.is_new, p.number) for p in points]
        charts.append(
            draw(
                f"loss of {metric}, {'points' if factor == 100 else unit}: against the anchor (with marks), and "
                "from night to night (grey)",
                plain,
                [
                    Series("against the anchor", "anchor", against_anchor),
                    Series("from night to night", "night_to_night", against_last),
                ],
                [Rule(0.0, "zero", "no loss")]
                + ([Rule(least, "least", "least loss that matters")] if least else []),
                "points" if factor == 100 else unit,
                factor,
            )
        )
    return charts


def _night_row(row: RowResult) -> NightRow:
    explanation = row.explanation
    shown = (
        "images labels classes decoder precision device driver libraries commit dirty config seeds"
    )
    notes = list(row.notes)
    if row.proposal:
        notes.append(row.proposal)
    if row.canary:
        canary = row.canary
        found = "found" if canary.is_flagged else "NOT FOUND, so this row is worth nothing tonight"
        notes.append(
            f"Canary: {canary.member} with its classes moved on by one was {found} on {canary.images} images "
            f"({canary.errors_broken} wrong against {canary.errors}). Its passes tonight differ from the table by "
            f"up to {canary.largest_difference:.1e}, {canary.flips} answers."
        )
    return NightRow(
        name=row.name,
        error=row.error,
        verdict=verdict_of(row),
        comparisons=tuple(_comparison_line(row, c) for c in row.comparisons)
        or tuple(
            ComparisonLine(f.metric, value_text(f.metric, f.value), "first night", "")
            for f in row.figures
        ),
        blame=tuple(
            (
                line.part,
                loss_text(explanation.metric, line.recovered).lstrip("+"),
                line.share,
                line.changes,
            )
            for line in explanation.blame
        )
        if explanation
        else (),
        worse=tuple(describe_worse_member(line) for line in row.worse_members),
        classes=_class_cells(explanation.classes) if explanation else (),
        clusters=_class_cells(explanation.clusters) if explanation else (),
        images=tuple(
            ImageTile(i.image_id, i.png_base64, i.label, i.before, i.after, i.is_wrong)
            for i in explanation.images
        )
        if explanation
        else (),
        conditions=tuple(
            (name, _condition_text(getattr(row.conditions, name)))
            for name in shown.split()
            if getattr(row.conditions, name) not in ("", None)
        )
        if row.conditions
        else (),
        notes=tuple(notes),
    )


def _class_cells(lines: Sequence[ClassLine]) -> tuple[tuple[str, int, int, int], ...]:
    return tuple((line.name, line.images, line.newly_wrong, line.newly_right) for line in lines)


def _comparison_line(row: RowResult, c: Comparison) -> ComparisonLine:
    figure = row.figure(c.metric)
    value = value_text(c.metric, figure.value) if figure else ""
    return ComparisonLine(c.label, value, c.verdict, describe_comparison(c))


def _condition_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    return str(value)


def alerts_now(history: History) -> tuple[Alert, ...]:
    """Give the alerts that are not resolved."""
    return tuple(alert for alert in replay(history) if alert.state != "resolved")
