"""The results of a run and of a search as tables on the terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group
from rich.table import Table

from ensemble.report.documents.run import Report
from ensemble.report.documents.search import SearchReport
from ensemble.report.documents.weights import Cost, Difference
from ensemble.report.pages.wording import THIN, cost_text

# Room for "sub-classifiers". A longer word is broken, so that there is room for the numbers.
_LABEL_WIDTH = 15


def result_table(report: Report) -> Group:
    """Lay out the results of a run, one row a predictor, on the test split; and what an image costs."""
    table = _table(f"{report.name}: test split, n = {report.best.score.n}")
    # With two classes there is no other k.
    ks = list(dict.fromkeys((report.k, report.other_k)))
    for column in ("members", *(f"top-{k}\nerror" for k in ks), "NLL"):
        table.add_column(column, justify="right", no_wrap=True)
    _add_differences(table)
    for result in report.results:
        score = result.score
        table.add_row(
            f"{result.label}{' *' if result.chosen else ''}",
            str(result.members),
            *(
                f"{error:.2%}"
                for error in (report.error(score), report.other_error(score))[: len(ks)]
            ),
            f"{score.nll:.4f}",
            _words(result.against_best),
            _words(result.against_uniform),
        )
    caption = (
        f"* recommended, by the search split alone; differences in points of top-{report.k} error"
    )
    if report.calibration and report.calibration.is_kept:
        calibration = report.calibration
        caption += (
            f"; the artifact answers at temperature {calibration.temperature:.2f}: "
            f"NLL {calibration.test_nll_after:.4f}"
        )
    table.caption = caption
    return Group(table, *_costs(report.costs, report.execution.seconds_per_image))


def search_table(report: SearchReport) -> Group:
    """Lay out the results of a search, on images its weights were not fitted on; and what an image costs."""
    recommended = report.recommendation.key if report.recommendation else ""
    where = "two-fold cross-fit" if report.is_cross_fitted else "test split"
    table = _table(f"{report.run}: {where}, n = {report.judged_images}")
    for column in ("members", f"top-{report.k}\nerror", "NLL"):
        table.add_column(column, justify="right", no_wrap=True)
    _add_differences(table)
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
        "* recommended, by the images that weights are fitted on; differences in points of "
        f"top-{report.k} error; search: {report.search}; weights: {', '.join(weights)}"
    )
    return Group(table, *_costs(report.costs, {}))


def _table(title: str) -> Table:
    """Begin a table that fits 80 columns: its numbers stay whole, and labels and intervals wrap."""
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("predictor", min_width=_LABEL_WIDTH, overflow="fold")
    return table


def _add_differences(table: Table) -> None:
    for other in ("best", "uniform"):
        table.add_column(f"against {other}\n[95 %] p", justify="right")


def _costs(costs: Sequence[Cost], seconds: Mapping[str, float]) -> tuple[Table, ...]:
    """Lay out what an image costs; no table where nothing is known of it."""
    if not costs or all(cost.parameters is None for cost in costs):
        return ()
    table = _table("what an image costs")
    for column in ("networks", "parameters", "operations", "depth", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for cost in costs:
        amounts = (cost.parameters, cost.flops, cost.depth, seconds.get(cost.key, cost.seconds))
        table.add_row(cost.label, str(cost.networks), *map(_amount, amounts))
    return (table,)


def _amount(value: float | None) -> str:
    return "?" if value is None else cost_text(value).replace(THIN, " ")


def _words(difference: Difference | None) -> str:
    """Write a difference so that it breaks between its mean, its interval and its p alone."""
    if difference is None:
        return ""
    mean, low, high = (
        f"{100 * value:+.2f}" for value in (difference.difference, difference.low, difference.high)
    )
    p = difference.mcnemar_p
    return f"{mean} [{low},{high}] {'p<0.001' if p < 0.001 else f'p={p:.3f}'}"
