"""The verb `distil`: one network that learned what an ensemble answers."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.app import (
    EXIT_INTERRUPTED,
    AsReport,
    FinishedRun,
    JsonLog,
    open_console,
    print_results,
)
from jobs.terminal import echo

if TYPE_CHECKING:
    from rich.table import Table

    from ensemble.report.documents.distil import DistilReport


def distil(
    place: FinishedRun,
    into: Annotated[
        str,
        typer.Option(
            metavar="MEMBER|FILE",
            help="The network: a member of the run that a recipe trains, or a YAML file with architecture, recipe "
            "and, if wanted, start.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...",
            help="Settings of the network to change, such as recipe.epochs=60 or architecture=resnet20_cifar.",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Views that are stored of each training image and answered by the ensemble; the network sees one an "
            "epoch.",
        ),
    ] = 8,
    seeds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Networks to train, with the seeds 0, 1 and so on."),
    ] = 1,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Also train the same recipe on labels alone, and on the ensemble's answers to the unchanged images.",
        ),
    ] = False,
    json_log: JsonLog = False,
    as_json: AsReport = False,
) -> None:
    """Train one network on what a run's ensemble answers, and report it beside the ensemble with its cost.

    The same command goes on with a distillation that was interrupted. The views lie below the folder of runs, which on
    a cluster must be one that every machine sees.
    """
    from jobs.distil.job import DOCUMENT, PAGE
    from jobs.distil.job import distil as job
    from jobs.progress import interrupt
    from jobs.run.job import RunOptions
    from jobs.stored_runs.layout import ARTIFACT

    interrupt.install()
    try:
        done = job(
            place,
            into,
            words or [],
            open_console(stderr=as_json),
            RunOptions(json_log=json_log),
            views=views,
            seeds=seeds,
            compares=compare,
        )
    except KeyboardInterrupt:
        echo("stopped; the same command continues where this one was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        echo(done.report.model_dump_json(indent=2))
        return
    lines = (
        *_left_out(done.report),
        f"document: {done.folder / DOCUMENT}",
        f"artifact of the first network: {done.folder / ARTIFACT}",
    )
    print_results(_table(done.report), lines, done.folder / PAGE)


def _left_out(report: "DistilReport") -> tuple[str, ...]:
    if not report.left_out:
        return ()
    return (
        f"not used on soft labels, because no stored view can hold it: {', '.join(report.left_out)}",
    )


def _table(report: "DistilReport") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{report.run}: test split, n = {report.test_images}",
        caption="differences in points of error, 95 % interval over seeds and images",
        title_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("predictor", overflow="fold")
    for column in (
        "n",
        f"top-{report.k}\nerror, %",
        "against the\nensemble",
        "against\nlabels alone",
        "agrees",
        "parameters",
        "MFLOP",
    ):
        table.add_column(column, justify="right")
    for row in report.rows:
        sd = "" if row.error.sd is None else f" ± {100 * row.error.sd:.2f}"
        differences = [
            ""
            if one is None
            else f"{100 * one.difference:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]"
            for one in (row.against_ensemble, row.against_labels)
        ]
        table.add_row(
            row.name,
            str(row.n),
            f"{100 * row.error.mean:.2f}{sd}",
            *differences,
            f"{row.agreement:.1%}",
            f"{row.parameters:,}",
            "" if row.flops is None else f"{row.flops / 1e6:.3g}",
        )
    return table
