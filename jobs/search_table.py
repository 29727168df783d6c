"""The result of a search as a table on the terminal."""

from rich.table import Table

from ensemble.report.search_document import Difference, SearchReport


def search_table(report: SearchReport) -> Table:
    """One row a predictor, on images that the weights were not fitted on."""
    where = "two-fold cross-fit" if report.is_cross_fitted else "test split"
    table = Table(title=f"{report.run}: {where}, n = {report.judged_images}", title_justify="left")
    table.add_column("predictor")
    for column in ("members", f"top-{report.k} error", "NLL", "vs best [95 %], p", "vs uniform"):
        table.add_column(column, justify="right")
    for row in report.results:
        table.add_row(
            row.label,
            str(row.members),
            f"{row.error:.2%}",
            f"{row.nll:.4f}",
            _words(row.against_best),
            _words(row.against_uniform),
        )
    weights = (f"{m.name} {m.weight:.3g}" for m in report.members if m.weight)
    table.caption = f"weights: {', '.join(weights)}; differences in percentage points"
    return table


def _words(difference: Difference | None) -> str:
    if difference is None:
        return ""
    mean, low, high = (
        f"{100 * value:+.2f}" for value in (difference.difference, difference.low, difference.high)
    )
    return f"{mean} [{low}, {high}], {difference.mcnemar_p:.2g}"
