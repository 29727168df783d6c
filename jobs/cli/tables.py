"""The results of a run and of a search as tables on the terminal."""

from rich.table import Table

from ensemble.report.documents.run import Report
from ensemble.report.documents.search import SearchReport
from ensemble.report.documents.weights import Difference


def result_table(report: Report) -> Table:
    """Lay out the results of a run: one row a predictor, on the test split."""
    n = report.best.score.n
    table = Table(title=f"{report.name}: test split, n = {n}", title_justify="left")
    errors = (f"top-{report.k} error", f"top-{report.other_k} error")
    for column in ("predictor", "members", *errors, "NLL"):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    table.add_column(f"top-{report.k} against best [95 %]", justify="right")
    for result in report.results:
        score, difference = result.score, result.against_best
        table.add_row(
            f"{result.label}{' *' if result.chosen else ''}",
            str(result.members),
            f"{report.error(score):.2%}",
            f"{report.other_error(score):.2%}",
            f"{score.nll:.4f}",
            f"{100 * difference.difference:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
            if difference
            else "",
        )
    table.caption = "* recommended, by the search split alone; differences in percentage points"
    if report.calibration and report.calibration.is_kept:
        calibration = report.calibration
        table.caption += (
            f"; the artifact answers at temperature {calibration.temperature:.2f}: "
            f"NLL {calibration.test_nll_after:.4f}"
        )
    return table


def search_table(report: SearchReport) -> Table:
    """Lay out the results of a search: one row a predictor, on images the weights were not fitted on."""
    recommended = report.recommendation.key if report.recommendation else ""
    where = "two-fold cross-fit" if report.is_cross_fitted else "test split"
    table = Table(title=f"{report.run}: {where}, n = {report.judged_images}", title_justify="left")
    table.add_column("predictor")
    for column in ("members", f"top-{report.k} error", "NLL", "vs best [95 %], p", "vs uniform"):
        table.add_column(column, justify="right")
    for row in report.results:
        table.add_row(
            f"{row.label}{' *' if row.key == recommended else ''}",
            str(row.members),
            f"{row.error:.2%}",
            f"{row.nll:.4f}",
            _words(row.against_best),
            _words(row.against_uniform),
        )
    weights = (f"{m.name} {m.weight:.3g}" for m in report.members if m.weight)
    table.caption = (
        "* recommended, by the images that weights are fitted on; differences in percentage points; "
        f"search: {report.search}; weights: {', '.join(weights)}"
    )
    return table


def _words(difference: Difference | None) -> str:
    if difference is None:
        return ""
    mean, low, high = (
        f"{100 * value:+.2f}" for value in (difference.difference, difference.low, difference.high)
    )
    return f"{mean} [{low}, {high}], {difference.mcnemar_p:.2g}"
