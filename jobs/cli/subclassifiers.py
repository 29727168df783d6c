"""`ensemble subclassifiers plan`: is it worth fine-tuning, and into how many label clusters?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


LOG_WIDTH = 120


app = typer.Typer(no_args_is_help=True, help="Sub-classifiers over label clusters.")


@app.command("plan")
def plan(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Of subclassifiers, as num_clusters=[3,8,9]."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell from the table alone, before any training, what sub-classifiers could gain."""
    from jobs.subclassifiers_plan import examine

    found = examine(folder, words or [])
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    show(found, console)


def show(found: dict[str, Any], console: "Console") -> None:
    """Print a plan: one table for each number of label clusters, then the advice."""
    from rich.table import Table
    from rich.text import Text

    for plan in found["plans"]:
        table = Table(
            title=f"S = {plan['num_clusters']}: of {plan['images']} {found['images']} images "
            f"{found['first_answer']} has {plan['errors']} wrong; fixable {plan['fixable_hard']} by "
            f"hard routing, {plan['fixable_top2']} by two; routed wrongly {plan['misrouted_hard']} "
            f"and {plan['misrouted_top2']}",
            title_justify="left",
        )
        table.add_column("classes", max_width=48)
        for column in ("sent here", "wrongly", "errors", "fixable", "to train on", "seconds"):
            table.add_column(column, justify="right")
        table.add_column("worth it")
        for cluster in plan["clusters"]:
            names = ", ".join(found["classes"][label] for label in cluster["classes"])
            seconds = cluster["seconds"]
            table.add_row(
                Text(names),
                *(str(cluster[k]) for k in ("sent", "misrouted", "errors", "fixable")),
                str(cluster["train_images"]),
                "?" if seconds is None else f"{seconds:.3g}",
                "yes" if cluster["is_worth_it"] else "no",
            )
        console.print(table)
    for line in (*found["notes"], advice(found)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def advice(found: dict[str, Any]) -> str:
    """Which S is worth it, and which label clusters are not, in a sentence."""
    best = found["worth_it"]
    if best is None:
        return (
            "Not worth it: no label cluster has enough fixable errors to tell a gain from chance."
        )
    plan = next(plan for plan in found["plans"] if plan["num_clusters"] == best)
    poor = [
        found["classes"][cluster["classes"][0]] + " …"
        for cluster in plan["clusters"]
        if not cluster["is_worth_it"]
    ]
    without = f", but not for the label clusters of {'; '.join(poor)}" if poor else ""
    return (
        f"Worth trying: S = {best}{without}. At most {plan['fixable_hard']} of {plan['errors']} errors "
        "can be put right by hard routing; fine-tuning decides how many are."
    )
