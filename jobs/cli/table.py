"""The verbs of `ensemble table`: show, diff, repair, gc and export; import has a file of its own."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.app import EXIT_FAILED, AsJson, StorageWords
from jobs.cli.import_table import import_table
from jobs.terminal import echo

if TYPE_CHECKING:
    from ensemble.storage.settings import StorageConfig
    from ensemble.storage.store import Store
    from ensemble.table.lease import Lease
    from ensemble.table.overview import ColumnSummary

app = typer.Typer(
    no_args_is_help=True,
    help="Show, compare, repair, export and import the predictions that a run keeps in its table.",
)

Place = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The folder of a run, its s3://bucket/prefix/RUN, or the folder of a table itself.",
    ),
]


@app.command()
def show(place: Place, words: StorageWords = None, as_json: AsJson = False) -> None:
    """List the columns of a table: shards, rows, bytes, the devices and hosts that computed them and when.

    Columns that mix kinds of device are named, files that no entry of the log names are listed, and the
    run that is writing the table.
    """
    from ensemble.table.lease import read_holder
    from ensemble.table.logit_table import LogitTable
    from ensemble.table.overview import summarise
    from ensemble.table.repair import unreferenced

    store, _ = _open(place, words)
    commits = LogitTable(store).commits()
    columns, holder = summarise(commits), read_holder(store)
    orphans = unreferenced(store, commits)
    if as_json:
        document = {
            "table": store.url,
            "written_by": holder.describe() if holder else None,
            "columns": [dataclasses.asdict(column) for column in columns],
            "unreferenced": orphans,
        }
        echo(json.dumps(document, indent=2))
        return
    _print_table([_HEAD, *map(_cells, columns)])
    size_mb = sum(column.size_bytes for column in columns) / 1e6
    echo(f"{store.url}: {len(columns)} columns, {size_mb:.2f} MB")
    for line in (*_describe_mixed(columns), *_describe_orphans(orphans)):
        echo(line)
    if holder:
        echo(f"being written by {holder.describe()}")


@app.command()
def diff(a: Place, b: Place, words: StorageWords = None, as_json: AsJson = False) -> None:
    """Tell which columns of two tables differ and why, and how far kinds of device differ on the same rows."""
    from ensemble.table.kind_difference import compare_kinds
    from ensemble.table.logit_table import LogitTable
    from ensemble.table.overview import compare, summarise

    first, second = (LogitTable(_open(place, words)[0]) for place in (a, b))
    differences = compare(summarise(first.commits()), summarise(second.commits()))
    kinds = compare_kinds(first, second)
    if as_json:
        document = [
            dataclasses.asdict(difference)
            | {
                "device_kinds": [
                    dataclasses.asdict(kind) for kind in kinds if kind.member == difference.member
                ]
            }
            for difference in differences
        ]
        echo(json.dumps(document, indent=2))
        return
    for difference in differences:
        column = f"{difference.state:9} {difference.member}"
        echo(": ".join(filter(None, (column, "; ".join(difference.reasons)))))
    for kind in kinds:
        echo(kind.describe())


@app.command()
def repair(
    place: Place,
    words: StorageWords = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only list what is damaged, change nothing, and end with exit code 1 if anything is.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take exactly the damaged parts out of a table; `ensemble resume RUN` computes them again.

    A log entry that a checkpoint of the log has is put back. No shard is removed. What cannot be read now
    is no damage, and ends the command.
    """
    from ensemble.table import repair as job
    from jobs.progress.live import working

    with working("table repair", f"read and check every file of {place}"):
        if check:
            faults = job.find_faults(_open(place, words)[0])
        else:
            with _writable(place, words) as (store, lease):
                faults = job.repair(store, lease)
    if as_json:
        echo(json.dumps([dataclasses.asdict(fault) for fault in faults], indent=2))
    else:
        for fault in faults:
            whose = f" ({fault.member}, {fault.images} images)" if fault.member else ""
            change = "wrote anew" if fault.is_kept else "took out"
            did = "found" if check else "began anew" if fault.path == "log" else change
            echo(f"{did} {fault.path}{whose}: {fault.reason}")
        done = "nothing is damaged" if not faults else f"{len(faults)} damaged"
        is_lost = not all(fault.is_kept for fault in faults)
        echo(done + ("; `ensemble resume` computes what is gone" if is_lost else ""))
    if check and faults:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def gc(place: Place, words: StorageWords = None) -> None:
    """Remove what crashes left in a table, and shard files that no entry of its log names.

    A run that was stopped and goes on later is shut out first. Files of the last ten minutes stay.
    """
    from ensemble.table.repair import YOUNG_S, collect
    from jobs.progress.live import working

    removal = working("table gc", f"find and remove unused files of {place}")
    with removal, _writable(place, words) as (store, lease):
        collection = collect(store, lease)
    for path in collection.removed:
        echo(f"removed {path}")
    for path in collection.young:
        echo(f"left {path}: it is not {YOUNG_S / 60:.0f} minutes old, so a run may take it up")
    echo(f"{len(collection.removed)} files removed")
    if collection.young:
        echo(f"{len(collection.young)} young files left; run the same command again later")


@app.command()
def export(
    place: Place,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    words: StorageWords = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format", help="The format of the file: parquet or npz; as its name ends if not set."
        ),
    ] = None,
) -> None:
    """Write all predictions of a table to one file for other tools; an .npz holds the labels, too."""
    from jobs.export_table import export as job
    from jobs.progress.live import working

    with working("table export", f"write the predictions of {place} to {out}"):
        done = job(place, out, words or [], kind)
    echo(f"{done.rows} rows written to {done.path}{done.note}")


app.command("import")(import_table)


def _open(place: str, words: list[str] | None) -> "tuple[Store, StorageConfig]":
    from jobs.stored_runs.open import open_table

    return open_table(place, words or [])


@contextmanager
def _writable(place: str, words: list[str] | None) -> "Iterator[tuple[Store, Lease | None]]":
    from jobs.stored_runs.tables import hold_if_shared

    store, storage = _open(place, words)
    with hold_if_shared(store, storage) as lease:
        yield store, lease


_HEAD = [
    "member",
    "column",
    "shards",
    "rows",
    "bad",
    "MB",
    "dtype",
    "s",
    "device",
    "host",
    "committed",
]


def _cells(column: "ColumnSummary") -> list[str]:
    return [
        column.member,
        column.column,
        f"{column.shards}",
        f"{column.rows}",
        f"{column.bad}",
        f"{column.size_bytes / 1e6:.2f}",
        column.dtype,
        f"{column.seconds:.1f}",
        " + ".join(column.rows_by_device_kind),
        " ".join(column.hosts),
        column.last,
    ]


def _describe_mixed(columns: "Sequence[ColumnSummary]") -> "Iterator[str]":
    """Name the columns that several kinds of device computed."""
    mixed = [column for column in columns if column.is_mixed]
    for column in mixed:
        rows = [f"{n} rows by {kind}" for kind, n in column.rows_by_device_kind.items()]
        yield f"{column.member} mixes kinds of device: {', '.join(rows)}"
    if mixed:
        yield (
            "Kinds round differently. `ensemble table diff` says how far they differ on the same rows, "
            "given a table of the same members that another kind computed."
        )


def _describe_orphans(paths: Sequence[str]) -> "Iterator[str]":
    """Name the files that no entry of the log names, and say where they come from."""
    for path in paths:
        yield f"no log entry names {path}"
    if paths:
        yield (
            "A crash leaves such a file before its entry; so does the loss of the log's last entries. "
            "A run computes what they held again, finds the same bytes in place, and names them; "
            "`ensemble table gc` removes them."
        )


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        echo("  ".join(cells).rstrip())
