"""The verb that fits a cascade."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.app import AsReport, FinishedRun
from jobs.terminal import echo

if TYPE_CHECKING:
    from rich.table import Table

    from ensemble.report.documents.cascade import CascadeReport


def cascade(
    place: FinishedRun,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...",
            help="Settings of the search that finds the weights, as `ensemble search` takes them, such as "
            "kind=line, k=5 or cost=flops.",
        ),
    ] = None,
    lose: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="Percentage points of error that may be lost to the whole ensemble, at 95 % confidence.",
        ),
    ] = 0.1,
    save: Annotated[
        bool,
        typer.Option(
            "--save",
            help="Also write an artifact that answers step by step, for `ensemble predict`, `serve` and `verify`, "
            "into the folder `ensemble` beside the report.",
        ),
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="With --save: answer test images with the artifact on this machine's CPU, and print the wall time "
            "beside the predicted one.",
        ),
    ] = False,
    as_json: AsReport = False,
) -> None:
    """Order an ensemble's members so that an image stops where the answer is sure, and price what that saves."""
    from ensemble.report.pages.advice import sets_line
    from jobs.cascade.job import cascade as cascade_job
    from jobs.cli.app import open_console
    from jobs.progress.live import working

    with working("cascade", f"fit a cascade on {place}"):
        report, path = cascade_job(place, words or [], lose, save, measure)
    if as_json:
        echo(report.model_dump_json(indent=2))
        return
    open_console().print(_table(report))
    for line in _lines(report):
        echo(line)
    if report.sets is not None:
        echo(sets_line(report.sets))
    if save:
        echo(f"artifact: {path.rpartition('/')[0]}/ensemble")
    echo(f"report: {path}")


def _table(report: "CascadeReport") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{report.run}: test split, n = {report.test.num_images}",
        title_justify="left",
        box=box.SIMPLE,
    )
    for column in ("step", "weight", report.cost_unit, f"stops at {report.signal}", "images"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in report.steps:
        threshold = "the last step" if step is report.steps[-1] else "never"
        if step.threshold is not None:
            threshold = f"{step.threshold:.4f}"
        table.add_row(
            step.member, f"{step.weight:.3g}", f"{step.cost:.3g}", threshold, f"{step.exits:.1%}"
        )
    return table


def _lines(report: "CascadeReport") -> list[str]:
    test, fitted, errors = report.test, report.fitted, report.errors
    kept = "kept" if test.loss <= report.lose else "NOT KEPT"
    lines = [
        f"{test.speedup:.2f}x less {report.cost_unit} than the whole ensemble, for {100 * test.loss:+.2f} points of "
        f"top-{report.k} error ({errors['cascade']:.2%} against {errors['ensemble']:.2%}).",
        f"{test.cost / report.best_member_cost:.2f}x the {report.cost_unit} of the best member, {report.best_member}, "
        f"alone, which errs on {errors['best']:.2%}.",
        f"The promise, at most {100 * report.lose:g} points lost at 95 % confidence: {100 * fitted.bound:.3f} on the "
        f"{fitted.num_images} images it was fitted on; on the test images {100 * test.loss:+.3f}, {kept}.",
    ]
    if (seconds := report.seconds) is not None:
        lines.append(
            f"Wall time here, {seconds.images} images: {1e3 * seconds.measured:.3g} ms an image, "
            f"{seconds.measured / seconds.predicted - 1:+.0%} against the {1e3 * seconds.predicted:.3g} ms that its "
            f"steps were priced at; the whole ensemble {1e3 * seconds.ensemble:.3g} ms, "
            f"{seconds.ensemble / seconds.measured:.2f}x as long."
        )
    return lines
