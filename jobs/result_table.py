"""The result of a run as a table on the terminal."""

from rich.table import Table

from ensemble.report.document import Report


def result_table(report: Report) -> Table:
    """One row a predictor, on the test split."""
    n = report.best.score.n
    table = Table(title=f"{report.name}: test split, n = {n}", title_justify="left")
    for column in ("predictor", "members", "top-1 error", f"top-{report.top_k} error", "NLL"):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    table.add_column("top-1 against best [95 %]", justify="right")
    for result in report.results:
        score, difference = result.score, result.against_best
        table.add_row(
            f"{result.label}{' *' if result.chosen else ''}",
            str(result.members),
            f"{score.top1_error:.2%}",
            f"{score.topk_error:.2%}",
            f"{score.nll:.4f}",
            f"{100 * difference.difference:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
            if difference
            else "",
        )
    table.caption = "* chosen on the search split; differences in percentage points"
    if report.calibration and report.calibration.is_kept:
        found = report.calibration
        table.caption += (
            f"; it answers at temperature {found.temperature:.2f}: NLL {found.test_nll_after:.4f}"
        )
    return table
