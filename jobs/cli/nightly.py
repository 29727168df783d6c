"""The verbs of every night: nightly SUITE, and what a person does in the morning."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.cli import remote
from jobs.cli.app import AsJson
from jobs.terminal import echo

if TYPE_CHECKING:
    from jobs.nightly.suite import SuiteConfig

RUN = "run"


class _WithRun(TyperGroup):
    """A group in which a word that is no verb is a suite: `nightly SUITE` is `nightly run SUITE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_help = any(word in ctx.help_option_names for word in args[:1])
        if args and not is_help and args[0] not in self.commands:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WithRun,
    no_args_is_help=True,
    help="Judge deployed ensembles every night, tell what got worse and why, and keep the history.",
)

Suite = Annotated[
    Path,
    typer.Argument(metavar="SUITE", help="The YAML file of a suite, as nightly.yaml."),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[a.b=value]...",
        help="Settings of the suite to change, as storage.endpoint=http://host:9000.",
    ),
]
Row = Annotated[
    list[str] | None,
    typer.Option("--row", metavar="NAME", help="A row of the suite; all of them if not set."),
]


@app.command(RUN)
def run(
    suite: Suite,
    words: Words = None,
    date: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="The date that the night is of, as 2026-11-27; today if not set. A date has one night.",
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="A trial: judge a few images of each row; it counts for no baseline and no alert.",
        ),
    ] = False,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="Start relative paths of the suite at the working folder instead of the folder of its "
            "file, and work on this machine or the cluster of RAY_ADDRESS.",
        ),
    ] = False,
) -> None:
    """Do a night: judge every row, compare it with its baselines, and write record, pages and alerts.

    `ensemble nightly SUITE` is the same. Exit codes: 0 nothing to tell, 3 a regression, 4 not comparable,
    5 partial.
    """
    from contextlib import nullcontext

    from jobs.nightly.job import parse_date
    from jobs.nightly.suite import in_folder_of, load_suite

    on = parse_date(date)
    with nullcontext(suite) if here else in_folder_of(suite) as path:
        config = load_suite(path, words or [])
        if address is not None and not here:
            _submit(config, on, smoke, address, insecure, wait)
            return
        from jobs.nightly.job import do_night
        from jobs.nightly.workers import RayWorkers

        record, code = do_night(config, on, RayWorkers(config), echo, is_smoke=smoke)
        echo(f"night of {record.date}: {config.folder}/index.html, exit code {code}")
    if code:
        raise typer.Exit(code)


@app.command()
def accept(
    suite: Suite,
    words: Words = None,
    row: Row = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Move the anchor, too, and say why. Without it the loss against the anchor is bounded.",
        ),
    ] = None,
) -> None:
    """Make the last night the accepted baseline; the vault is opened, and the opening charged to the budget."""
    from jobs.nightly import accept as job
    from jobs.nightly.history import read_history
    from jobs.nightly.pages import write_index
    from jobs.nightly.suite import in_folder_of, load_suite
    from jobs.nightly.workers import RayWorkers

    with in_folder_of(suite) as path:
        config = load_suite(path, words or [])
        decision = job.Decision(tuple(row or ()), anchor, getpass.getuser())
        number, record = job.accept(config, decision, RayWorkers(config), echo)
        store = _store(config)
        write_index(store, read_history(store), config.name or "suite")
    for line in record.vault:
        figures = ", ".join(f"{f.metric} {f.value:.4g}" for f in line.figures)
        echo(f"{line.row}: vault of {line.n} images: {figures}")
    moved = "accepted baseline and anchor" if record.is_anchor else "accepted baseline"
    echo(f"record {number}: night {record.night} is the {moved} of {', '.join(record.rows)}")


@app.command()
def acknowledge(
    suite: Suite,
    alert: Annotated[
        str,
        typer.Argument(metavar="ALERT", help="The alert, as ROW/METRIC, as the night prints it."),
    ],
    until: Annotated[
        str,
        typer.Option(metavar="DATE", help="The last date on which the alert does not count."),
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    words: Words = None,
) -> None:
    """Let an alert that somebody works on count no more until after a date; its exit code is then 0."""
    from jobs.nightly.accept import acknowledge as job
    from jobs.nightly.history import read_history
    from jobs.nightly.job import parse_date
    from jobs.nightly.pages import write_index
    from jobs.nightly.suite import in_folder_of, load_suite

    on = parse_date(until)
    with in_folder_of(suite) as path:
        config = load_suite(path, words or [])
        number, _ = job(config, alert, on, reason, getpass.getuser())
        store = _store(config)
        write_index(store, read_history(store), config.name or "suite")
    echo(f"record {number}: {alert} is acknowledged until {on}")


@app.command()
def check(
    suite: Suite,
    words: Words = None,
    max_age: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="The oldest that the last night may be, as 26h, 90m or 2d."
        ),
    ] = "26h",
) -> None:
    """Find a missed night, from another clock than the one that starts the nights: exit code 1 if one is missing."""
    from jobs.nightly.job import check_age, parse_age
    from jobs.nightly.suite import in_folder_of, load_suite

    age = parse_age(max_age)
    with in_folder_of(suite) as path:
        echo(check_age(load_suite(path, words or []), age))


@app.command()
def show(suite: Suite, words: Words = None, as_json: AsJson = False) -> None:
    """Print the last night and the alerts, and write the pages anew from the records. Computes nothing."""
    import json

    from jobs.nightly.alerts import replay
    from jobs.nightly.history import read_history
    from jobs.nightly.pages import write_pages
    from jobs.nightly.suite import in_folder_of, load_suite
    from jobs.nightly.text import describe_alert, describe_row

    with in_folder_of(suite) as path:
        config = load_suite(path, words or [])
        store = _store(config)
        history = read_history(store)
        if history.last is None:
            echo(f"no night yet in {config.folder}")
            return
        number, night = history.last
        write_pages(store, history, number, config.name or "suite")
    alerts = [alert for alert in replay(history) if alert.state != "resolved"]
    if as_json:
        document = night.model_dump(mode="json") | {
            "record": number,
            "alerts": [{"alert": a.key, "state": a.state, "nights": a.nights} for a in alerts],
        }
        echo(json.dumps(document, indent=2))
        return
    echo(f"night of {night.date}, record {number}")
    for row in night.rows:
        for line in describe_row(row):
            echo(line)
    for alert in alerts:
        echo(f"alert: {describe_alert(alert)}")
    echo(f"{config.folder}/index.html")


@app.command()
def schema() -> None:
    """Print the JSON schema of a suite: every setting, its type, default and meaning."""
    import json

    from jobs.nightly.suite import SuiteConfig

    echo(json.dumps(SuiteConfig.model_json_schema(), indent=2))


def _store(config: "SuiteConfig") -> Any:
    from ensemble.storage.open import open_store

    return open_store(config.folder, config.storage)


def _submit(
    config: "SuiteConfig", on: Any, smoke: bool, address: str, insecure: bool, wait: bool
) -> None:
    from cluster.submission.head import connect
    from jobs.nightly.submit import submit_night
    from jobs.progress.live import working

    with working("nightly", f"ship the night to {address}"):
        client = connect(address, insecure)
        attempt = submit_night(client, config, on, is_smoke=smoke)
    echo(f"submitted {attempt.run} to {address}")
    remote.go_on(client, attempt, wait)
