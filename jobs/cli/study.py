"""The verb `study`: stages of variants, trained with several seeds, and their tables."""

from typing import Annotated

import typer

from jobs.cli.app import EXIT_INTERRUPTED, AsReport, JsonLog, open_console, print_results
from jobs.terminal import echo


def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A YAML file with the stages of a study, or the name of one that comes with the project.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[a.b=value]...", help="Settings to change, such as seeds=5 or scale=small."
        ),
    ] = None,
    json_log: JsonLog = False,
    as_json: AsReport = False,
) -> None:
    """Train variants of a recipe stage by stage with several seeds, and tell which differences are real.

    The same command goes on with a study that was interrupted. With `search`, the best ensemble of all networks is
    searched after the last stage, and its table printed too; with --json there is the study alone.
    """
    from pathlib import Path

    from jobs.cli.run import run_here
    from jobs.cli.study_tables import study_tables
    from jobs.progress import interrupt
    from jobs.run.job import RunOptions
    from jobs.settings import load_run_config
    from jobs.stored_runs.layout import open_run_folder
    from jobs.study.flow import FINAL, NETWORKS, run_study
    from jobs.study.settings import load_study, study_name

    config = load_study(name, words or [])
    interrupt.install()
    try:
        done = run_study(
            config,
            study_name(config, Path(name).stem),
            open_console(stderr=as_json),
            RunOptions(json_log=json_log),
        )
    except KeyboardInterrupt:
        echo("stopped; the same command continues where this one was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        echo(done.report.model_dump_json(indent=2))
        return
    lines = (
        f"final model: {done.folder / FINAL}",
        f"all networks as a pool: ensemble run {done.folder / NETWORKS}",
    )
    print_results(study_tables(done.report), lines, done.page)
    if config.search is not None:
        pool = load_run_config(done.folder / NETWORKS, [])
        run_here(
            pool, open_run_folder(pool, NETWORKS), RunOptions(json_log=json_log), as_json=False
        )
