"""A night in words: the exit code, lines for a terminal, Markdown, and JUnit's XML for systems that read tests."""

from collections.abc import Sequence
from xml.etree import ElementTree

from ensemble.report.documents.nightly import Comparison, Night, RowResult, WorseMemberLine
from jobs.cli.app import EXIT_NOT_COMPARABLE, EXIT_PARTIAL, EXIT_REGRESSION
from jobs.nightly.alerts import Alert

_NUM_CLASSES = 3  # named in a sentence


def exit_code(night: Night, alerts: Sequence[Alert]) -> int:
    """Give the exit code of a night: an open alert comes first, then what is missing, then what has no baseline."""
    if not night.is_smoke and any(alert.state == "open" for alert in alerts):
        return EXIT_REGRESSION
    if any(row.error or row.is_worthless for row in night.rows):
        return EXIT_PARTIAL
    if any(c.verdict == "not_comparable" for row in night.rows for c in row.comparisons):
        return EXIT_NOT_COMPARABLE
    return 0


def value_text(metric: str, value: float) -> str:
    """Write a figure in the unit of its metric."""
    if metric == "nll":
        return f"{value:.4f}"
    if metric == "seconds":
        return f"{1000 * value:.3g} ms"
    return f"{100 * value:.2f} %"


def loss_text(metric: str, loss: float) -> str:
    """Write a loss in the unit of its metric: points, nats, or percent of time."""
    if metric == "nll":
        return f"{loss:+.4f} nats"
    return f"{100 * loss:+.2f} {'%' if metric == 'seconds' else 'points'}"


def p_text(p: float) -> str:
    """Write a p-value; what is smaller than numbers can tell is no 0."""
    return "p < 1e-15" if p < 1e-15 else f"p = {p:.2g}"


def describe_comparison(comparison: Comparison) -> str:
    """Describe a comparison in one line."""
    c = comparison
    parts = [f"{c.verdict.replace('_', ' ')} against {c.baseline} (record {c.baseline_record})"]
    if c.loss is not None and c.verdict != "identical":
        bounds = (
            f" [{loss_text(c.metric, c.low)}, {loss_text(c.metric, c.high)}]"
            if c.low is not None and c.high is not None
            else ""
        )
        parts.append(f"{loss_text(c.metric, c.loss)}{bounds}")
    if c.newly_wrong is not None:
        parts.append(f"{c.newly_wrong} newly wrong, {c.newly_right} newly right")
    if c.p is not None:
        parts.append(p_text(c.p))
    if c.num_images_needed is not None:
        parts.append(f"about {c.num_images_needed:,} images would decide")
    if c.reason:
        parts.append(c.reason)
    return ", ".join(parts)


def describe_row(row: RowResult) -> list[str]:
    """Describe a row in lines: its figures, its verdicts, and what is to blame."""
    if row.error:
        return [f"{row.name}: not judged: {row.error}"]
    figures = ", ".join(f"{f.metric} {value_text(f.metric, f.value)}" for f in row.figures)
    lines = [f"{row.name}: {figures}, n = {row.n}; {row.forward_passes} forward passes"]
    lines += [f"  {c.label}: {describe_comparison(c)}" for c in row.comparisons]
    if row.explanation:
        lines += [
            f"  blame: {line.part}, {100 * line.share:.0f} % of the change"
            f"{': ' + '; '.join(line.changes) if line.changes else ''}"
            for line in row.explanation.blame[:3]
        ]
    lines += [f"  worse: {describe_worse_member(line)}" for line in row.worse_members]
    if row.stream:
        level = sum(row.stream.evidence) / len(row.stream.evidence)
        lines.append(
            f"  stream: evidence {level:.3g} of {row.stream.average_run_length:g} after {row.stream.images} "
            "discordant images"
        )
    if row.canary:
        canary = row.canary
        lines.append(
            f"  canary: {'found' if canary.is_flagged else 'NOT FOUND: this night is worth nothing'}; "
            f"{canary.errors_broken} of {canary.images} wrong against {canary.errors}"
        )
        if canary.has_drifted:
            lines.append(
                f"  drift: {canary.member} gives other numbers than the table holds, by up to "
                f"{canary.largest_difference:.1e}; {canary.flips} answers differ"
            )
    lines += [f"  {note}" for note in (row.proposal, *row.notes) if note]
    return lines


def describe_worse_member(line: WorseMemberLine) -> str:
    """Describe a member that does worse by itself, in one sentence."""
    classes = ", ".join(
        f"{c.name} ({c.newly_wrong} newly wrong, {c.newly_right} newly right)"
        for c in line.classes[:_NUM_CLASSES]
    )
    more = len(line.classes) - _NUM_CLASSES
    if more > 0:
        classes += f" and {more} more"
    return (
        f"{line.name} by itself, against record {line.baseline_record}: {loss_text('top1_error', line.loss)}, "
        f"{line.newly_wrong} newly wrong, {line.newly_right} newly right, {p_text(line.p)}"
        f"{'; most of all on ' + classes if classes else ''}"
    )


def describe_alert(alert: Alert) -> str:
    """Describe an alert in one line."""
    owner = f", owner {alert.owner}" if alert.owner else ""
    state = f"acknowledged until {alert.until}" if alert.state == "acknowledged" else alert.state
    last = (
        f": {alert.last.part}{' ' if alert.last.part else ''}{loss_text(alert.metric, alert.last.loss)}"
        if alert.last and alert.last.loss is not None
        else ""
    )
    return f"{alert.key} {state} since {alert.opened_on}, nights: {alert.nights}{last}{owner}"


def markdown(number: int, night: Night, alerts: Sequence[Alert]) -> str:
    """Write a night as Markdown, for a message or a pull request."""
    current = [alert for alert in alerts if alert.state != "resolved"]
    lines = [f"## {_md(night.suite)}, night of {night.date} (record {number})", ""]
    lines += [f"- **alert** {_md(describe_alert(alert))}" for alert in current]
    lines += ["", "| row | figure | value | verdict | loss | p |", "|---|---|---|---|---|---|"]
    for row in night.rows:
        if row.error:
            lines.append(f"| {_md(row.name)} | | | **not judged** | {_md(row.error)} | |")
            continue
        compared = {c.metric: c for c in reversed(row.comparisons)}
        for figure in row.figures:
            c = compared.get(figure.metric)
            loss = loss_text(c.metric, c.loss) if c and c.loss is not None else ""
            verdict = c.verdict.replace("_", " ") if c else "first night"
            p = f"{c.p:.2g}" if c and c.p is not None else ""
            value = value_text(figure.metric, figure.value)
            lines.append(
                f"| {_md(row.name)} | {figure.metric} | {value} | {verdict} | {loss} | {p} |"
            )
        if row.explanation and row.explanation.blame:
            first = row.explanation.blame[0]
            lines.append(
                f"| {_md(row.name)} | blame | {_md(first.part)} | {100 * first.share:.0f} % of the change | "
                f"{_md('; '.join(first.changes))} | |"
            )
        for line in row.worse_members:
            lines.append(
                f"| {_md(row.name)} | member by itself | {_md(line.name)} | worse | "
                f"{loss_text('top1_error', line.loss)} | {line.p:.2g} |"
            )
    return "\n".join([*lines, ""])


def junit(night: Night) -> bytes:
    """Write a night as JUnit's XML: a case for each comparison."""
    suite = ElementTree.Element("testsuite", name=night.suite, timestamp=str(night.date))
    failures = errors = skipped = tests = 0
    for row in night.rows:
        if row.error:
            case = ElementTree.SubElement(suite, "testcase", classname=row.name, name="judged")
            ElementTree.SubElement(case, "error", message=_xml(row.error))
            tests, errors = tests + 1, errors + 1
        for c in row.comparisons:
            name = f"{c.label} against {c.baseline}"
            case = ElementTree.SubElement(suite, "testcase", classname=row.name, name=name)
            tests += 1
            if c.verdict == "regressed" and c.is_gate:
                ElementTree.SubElement(case, "failure", message=_xml(describe_comparison(c)))
                failures += 1
            elif c.verdict in ("not_comparable", "inconclusive"):
                ElementTree.SubElement(case, "skipped", message=_xml(describe_comparison(c)))
                skipped += 1
    for key, value in (
        ("tests", tests),
        ("failures", failures),
        ("errors", errors),
        ("skipped", skipped),
    ):
        suite.set(key, str(value))
    content: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return content


def _md(text: str) -> str:
    """Keep a name from being read as Markdown or HTML."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else f"&{'lg'[mark == '>']}t;")
    return text.replace("\n", " ")


def _xml(text: str) -> str:
    """Leave out the control characters that XML cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n")
