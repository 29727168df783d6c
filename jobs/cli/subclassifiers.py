"""The verb `ensemble subclassifiers plan`, and its result as text."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.app import AsJson, open_console
from jobs.terminal import echo

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    no_args_is_help=True,
    help="Plan sub-classifiers: networks fine-tuned on classes that are easily confused.",
)


@app.command("plan")
def plan(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings of sub-classifiers to change, such as num_clusters=[3,8,9] or "
            "base=resnet-0.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell from the predictions of a finished run what sub-classifiers could gain. Trains nothing."""
    from jobs.progress.live import working
    from jobs.subclassifiers_plan import examine

    with working("subclassifiers plan", f"plan label clusters for {folder}"):
        document = examine(folder, words or [])
    if as_json:
        echo(json.dumps(document, indent=2))
    else:
        show(document, open_console())


def show(document: dict[str, Any], console: "Console") -> None:
    """Print a plan: one table for each number of label clusters, then the advice."""
    from rich.table import Table
    from rich.text import Text

    for plan in document["plans"]:
        table = Table(
            title=f"S = {plan['num_clusters']}: of {plan['images']} {document['images']} images "
            f"{document['first_answer']} has {plan['errors']} wrong; fixable {plan['fixable_hard']} by "
            f"hard routing, {plan['fixable_top2']} by two; routed wrongly {plan['misrouted_hard']} "
            f"and {plan['misrouted_top2']}",
            title_justify="left",
        )
        table.add_column("classes", max_width=48)
        for column in ("routed here", "wrongly", "errors", "fixable", "to train on", "seconds"):
            table.add_column(column, justify="right")
        table.add_column("worth it")
        for cluster in plan["clusters"]:
            names = ", ".join(document["classes"][label] for label in cluster["classes"])
            seconds = cluster["seconds"]
            table.add_row(
                Text(names),
                *(str(cluster[k]) for k in ("sent", "misrouted", "errors", "fixable")),
                str(cluster["train_images"]),
                "?" if seconds is None else f"{seconds:.3g}",
                "yes" if cluster["is_worth_it"] else "no",
            )
        console.print(table)
    for line in (*document["notes"], advice(document)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def advice(document: dict[str, Any]) -> str:
    """Tell which number of label clusters is worth it, and which of the label clusters are not."""
    best = document["worth_it"]
    if best is None:
        return (
            "Not worth it: no label cluster has enough fixable errors to tell a gain from chance."
        )
    plan = next(plan for plan in document["plans"] if plan["num_clusters"] == best)
    poor = [
        document["classes"][cluster["classes"][0]] + " …"
        for cluster in plan["clusters"]
        if not cluster["is_worth_it"]
    ]
    without = f", but not for the label clusters of {'; '.join(poor)}" if poor else ""
    return (
        f"Worth trying: S = {best}{without}. At most {plan['fixable_hard']} of {plan['errors']} errors "
        "can be put right by hard routing; fine-tuning decides how many are."
    )
