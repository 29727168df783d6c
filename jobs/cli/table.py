"""`ensemble table`: look at a table, compare two, mend one, export and import predictions."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ensemble.storage.settings import StorageConfig
    from ensemble.storage.store import Store
    from ensemble.table.lease import Lease

app = typer.Typer(
    no_args_is_help=True, help="Show, compare, repair, export and import predictions."
)

Place = Annotated[
    str, typer.Argument(metavar="RUN", help="Folder of a run, a table's folder, or s3://….")
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[storage.key=value]...", help="How S3 is reached, as storage.endpoint=http://…."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def show(place: Place, words: Words = None, as_json: Json = False) -> None:
    """List the columns: shards, rows, bytes, who computed them and when; and files of no column."""
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
        typer.echo(json.dumps(document, indent=2))
        return
    lines = [("member", "column", "shards", "rows", "bad", "MB", "dtype", "s", "host", "committed")]
    lines += [
        (
            c.member,
            c.column,
            f"{c.shards}",
            f"{c.rows}",
            f"{c.bad}",
            f"{c.size_bytes / 1e6:.2f}",
            c.dtype,
            f"{c.seconds:.1f}",
            " ".join(c.hosts),
            c.last,
        )
        for c in columns
    ]
    _print_table(lines)
    size_mb = sum(column.size_bytes for column in columns) / 1e6
    typer.echo(f"{store.url}: {len(columns)} columns, {size_mb:.2f} MB")
    for path in orphans:
        typer.echo(f"no log entry names {path}")
    if orphans:
        typer.echo(
            "A crash leaves such a file before its entry; so does the loss of the log's last entries. "
            "A run computes what they held again, finds the same bytes in place, and names them; "
            "`ensemble table gc` removes them."
        )
    if holder:
        typer.echo(f"being written by {holder.describe()}")


@app.command()
def diff(a: Place, b: Place, words: Words = None, as_json: Json = False) -> None:
    """Say which columns of two tables differ, and why."""
    from ensemble.table.logit_table import LogitTable
    from ensemble.table.overview import compare, summarise

    first, second = (summarise(LogitTable(_open(place, words)[0]).commits()) for place in (a, b))
    found = compare(first, second)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
        return
    for each in found:
        typer.echo(
            ": ".join(filter(None, (f"{each.state:9} {each.member}", "; ".join(each.reasons))))
        )


@app.command()
def repair(
    place: Place,
    words: Words = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what is damaged.")] = False,
    as_json: Json = False,
) -> None:
    """Find everything damaged, and take exactly that out; `ensemble resume` computes it again."""
    from ensemble.table import repair as job

    if check:
        faults = job.find_faults(_open(place, words)[0])
    else:
        with _writable(place, words) as (store, lease):
            faults = job.repair(store, lease)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(fault) for fault in faults], indent=2))
    else:
        for fault in faults:
            whose = f" ({fault.member}, {fault.images} images)" if fault.member else ""
            typer.echo(f"{'found' if check else 'removed'} {fault.path}{whose}: {fault.reason}")
        done = "nothing is damaged" if not faults else f"{len(faults)} damaged"
        typer.echo(done + ("; `ensemble resume` computes what is gone" if faults else ""))
    if check and faults:
        raise typer.Exit(1)


@app.command()
def gc(place: Place, words: Words = None) -> None:
    """Remove leftovers of crashes, and shard files that no log entry names."""
    from ensemble.table.repair import collect

    with _writable(place, words) as (store, lease):
        waste = collect(store, lease)
    for path in waste:
        typer.echo(f"removed {path}")
    typer.echo(f"{len(waste)} files removed")


@app.command()
def export(
    place: Place,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    words: Words = None,
    kind: Annotated[str, typer.Option("--format", help="parquet or npz.")] = "parquet",
) -> None:
    """Write all predictions to one file for other tools."""
    from ensemble.table.export import FORMATS, export_table
    from ensemble.table.logit_table import LogitTable

    if kind not in FORMATS:
        from ensemble.errors import UnknownNameError

        raise UnknownNameError.of("format", kind, FORMATS)
    rows = export_table(LogitTable(_open(place, words)[0]), out, kind)
    typer.echo(f"{rows} rows written to {out}")


@app.command("import")
def import_(
    place: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder to make, or s3://bucket/prefix/RUN.")
    ],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES... [storage.key=value]...", help=".npy, .npz, .csv or .parquet."
        ),
    ],
    labels: Annotated[Path | None, typer.Option(help=".npy, .json or .csv.")] = None,
    form: Annotated[str, typer.Option(help="probabilities or logits.")] = "probabilities",
    class_map: Annotated[Path | None, typer.Option(help="JSON: our class of each output.")] = None,
    classes: Annotated[Path | None, typer.Option(help="JSON: class names.")] = None,
    search: Annotated[float, typer.Option(help="Share that weights are fitted on.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
) -> None:
    """Take predictions computed elsewhere; `ensemble search RUN` then works on them."""
    from ensemble.errors import UnknownNameError
    from jobs.import_table import ImportSettings, import_table
    from jobs.stored_runs.open import split_words, storage_config

    if form not in ("logits", "probabilities"):
        raise UnknownNameError.of("form", form, ("logits", "probabilities"))
    kind: Literal["logits", "probabilities"] = "logits" if form == "logits" else "probabilities"
    storage, names = split_words(words)
    files = [Path(name) for name in names]
    settings = ImportSettings(files, labels, kind, class_map, classes, search, seed, dtype)
    config, index = import_table(place, settings, storage_config(storage))
    typer.echo(
        f"{len(config.members)} members, {len(index)} images, {len(index.classes)} classes imported "
        f"into {place}; `ensemble search {place}` finds weights"
    )


def _open(place: str, words: list[str] | None) -> "tuple[Store, StorageConfig]":
    from jobs.stored_runs.open import open_table

    return open_table(place, words or [])


@contextmanager
def _writable(place: str, words: list[str] | None) -> "Iterator[tuple[Store, Lease | None]]":
    from jobs.stored_runs.tables import hold_if_shared

    store, storage = _open(place, words)
    with hold_if_shared(store, storage) as lease:
        yield store, lease


def _print_table(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
