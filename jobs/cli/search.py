"""The verbs that read finished runs: search, summary."""

from typing import Annotated

import typer

from ensemble.errors import ConfigError
from jobs.cli.app import AsReport, FinishedRun, print_results
from jobs.terminal import echo


def search(
    place: FinishedRun,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...",
            help="Settings of the search, such as kind=line, k=5, max_cost=0.02, temperature=true or "
            "cross_fit=true; and of storage, such as storage.endpoint=http://host:9000.",
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option(
            "--save",
            help="Also write an artifact of the weights, for `ensemble verify`, `predict` and `export`, into "
            "the folder `ensemble` beside the report.",
        ),
    ] = False,
    as_json: AsReport = False,
) -> None:
    """Search weights on the predictions of a finished run, in seconds: no model and no Ray is needed."""
    from ensemble.report.pages.advice import search_advice, sets_line
    from jobs.cli.tables import search_table
    from jobs.progress.live import working
    from jobs.search import search as search_job

    with working("search", f"search weights on {place}"):
        report, page = search_job(place, words or [], save)
    if as_json:
        echo(report.model_dump_json(indent=2))
        return
    notes = (f"note: {warning}" for warning in report.warnings)
    saved = (f"artifact: {page.rpartition('/')[0]}/ensemble",) if save else ()
    sets = (sets_line(report.sets),) if report.sets else ()
    print_results(search_table(report), (*search_advice(report), *sets, *notes, *saved), page)


def summary(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [storage.key=value]...",
            help="Folders, or s3://bucket/prefix/RUN, of finished runs that differ in their seed; what is "
            "no finished run is left out, as in runs/*.",
        ),
    ],
    members: Annotated[
        bool, typer.Option("--members", help="Add a table of the members, each alone.")
    ] = False,
) -> None:
    """Print the mean ± standard deviation over finished runs of one config, as Markdown tables."""
    from jobs.progress.live import working
    from jobs.stored_runs.open import split_words, storage_config
    from jobs.summary.job import choose_runs, summarise

    storage, runs = split_words(words)
    if not runs:
        raise ConfigError(
            "no run is named. Expected the folders of finished runs, as in `ensemble summary "
            "runs/digits-*`."
        )
    store = storage_config(storage)
    with working("summary", f"read {len(runs)} reports"):
        runs, notes = choose_runs(runs, store)
        tables = summarise(runs, store, members)
    for note in notes:
        echo(note, err=True)
    echo(tables)
