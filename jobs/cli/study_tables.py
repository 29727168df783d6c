"""The stages of a study as tables on the terminal."""

from rich import box
from rich.console import Group
from rich.table import Table

from ensemble.report.documents.study import SeedMean, SeedValue, StudyReport, StudyStage


def study_tables(report: StudyReport) -> Group:
    """Lay out a table for each stage, one row a variant."""
    tables = []
    for stage in report.stages:
        tables.append(_table(report, stage))
        if stage.clusters:
            tables.append(_clusters(stage))
    return Group(*tables)


def _table(report: StudyReport, stage: StudyStage) -> Table:
    table = Table(
        title=f"{stage.name}: scale {report.scale or 'full'}, {report.seeds} seeds",
        caption=f"* lowest validation error; errors are top-{report.k}, differences in points of test error with 95 % "
        "intervals",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("row", overflow="fold")
    for column in (
        "parameters",
        "n",
        "validation\nerror, %",
        "chosen",
        "test\nerror, %",
        "against\nbase",
        "detect-\nable",
        "seconds",
    ):
        table.add_column(column, justify="right")
    for row in stage.rows:
        start = (f"{row.name}{' *' if row.is_winner else ''}", f"{row.parameters:,}", str(row.n))
        if row.test is None:
            table.add_row(*start, "-", "-", "-", "-", "-", "-")
            continue
        against = row.against_base
        table.add_row(
            *start,
            _mean(row.validation) if row.validation else "trained on",
            "-" if row.chosen_share is None else f"{row.chosen_share:.0%}",
            _mean(row.test),
            f"{100 * against.difference:+.2f} [{100 * against.low:+.2f}, {100 * against.high:+.2f}]"
            if against
            else "",
            f"{100 * against.detectable:.2f}" if against else "",
            "-" if row.seconds is None else f"{row.seconds:.1f}",
        )
    reasons = [f"{row.name}: {row.reason}" for row in stage.rows if row.reason]
    if reasons:
        table.caption = "\n".join([*reasons, str(table.caption)])
    return table


def _clusters(stage: StudyStage) -> Table:
    """Lay out the accuracies of base and sub-classifiers within label clusters."""
    top_k = stage.clusters[0].top_k
    table = Table(
        title=f"{stage.name}: accuracy over all test images, each in its label cluster, %",
        caption="restricted: among the classes of the label cluster alone"
        + (
            "; Rand and NMI (normalised mutual information): agreement with the known groups"
            if stage.groups
            else ""
        ),
        box=box.SIMPLE_HEAD,
    )
    for column in (
        "label\nclusters",
        "base, all\nclasses",
        "base,\nrestricted",
        "sub-\nclassifiers",
        f"top-{top_k} base,\nrestricted",
        f"top-{top_k} sub-\nclassifiers",
        "routed",
        *(("adjusted\nRand", "NMI") if stage.groups else ()),
    ):
        table.add_column(column, justify="right")
    for one in stage.clusters:
        accuracies = (
            one.base,
            one.restricted,
            one.sub,
            one.restricted_topk,
            one.sub_topk,
            one.routed_share,
        )
        agreements = (one.adjusted_rand, one.mutual_information) if stage.groups else ()
        table.add_row(
            str(one.num_clusters),
            *(_mean(value) for value in accuracies),
            *(_value(value) for value in agreements),
        )
    return table


def _value(value: SeedValue | None) -> str:
    if value is None:
        return "-"
    return f"{value.mean:.2f}{'' if value.sd is None else f' ± {value.sd:.2f}'}"


def _mean(value: SeedMean) -> str:
    sd = "" if value.sd is None else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:.2f}{sd}"
