"""`ensemble table export`: the predictions of a table, and the labels of its run, in one file for other tools."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import ConfigError, ProjectError, UnknownNameError
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.table.export import FORMATS, export_table
from ensemble.table.logit_table import LogitTable
from jobs.stored_runs.open import find_run, open_table


@dataclass(frozen=True)
class Export:
    """What an export wrote.

    Attributes:
        path: The file.
        rows: Number of rows of all columns.
        note: Why the file has no labels, where it could have some; empty otherwise.
    """

    path: Path
    rows: int
    note: str


def export(place: str, out: Path, words: Sequence[str], kind: str | None = None) -> Export:
    """Write every row of a table to a file.

    Args:
        place: The folder of a run, its s3://bucket/prefix/RUN, or the folder of a table.
        out: The file; its suffix says the format.
        words: How S3 is reached, of the form storage.key=value.
        kind: The format, where the suffix does not say it.

    Raises:
        ConfigError: The format is not known, or is not that of the suffix.
        TableError: The file cannot be written, or the table is damaged or empty.
    """
    out, kind = _file(out, kind)
    table = LogitTable(open_table(place, words)[0])
    index, note = _labels(place, words, table) if kind == "npz" else (None, "")
    return Export(out, export_table(table, out, kind, index), note)


def _file(out: Path, kind: str | None) -> tuple[Path, str]:
    suffix = out.suffix.lower().removeprefix(".")
    if kind is None:
        if suffix not in FORMATS:
            raise ConfigError(
                f"the name of {str(out)!r} does not say its format; expected one that ends in .npz or "
                ".parquet. Rename it, or say --format npz."
            )
        kind = suffix
    if kind not in FORMATS:
        raise UnknownNameError.of("format", kind, FORMATS)
    if suffix in FORMATS and suffix != kind:
        raise ConfigError(
            f"--format {kind} contradicts the name of {str(out)!r}. Leave --format out, or call the file "
            f"{str(out.with_suffix(f'.{kind}'))!r}."
        )
    try:
        return out.expanduser(), kind
    except RuntimeError as error:
        raise ConfigError(f"cannot find the home folder of {str(out)!r}: {error}") from error


def _labels(place: str, words: Sequence[str], table: LogitTable) -> tuple[ImageIndex | None, str]:
    """List the images of a table's run, if they are those that were predicted."""
    run = find_run(place, words)
    if run is None:
        return None, ", without labels: this is a table alone, and labels belong to its run"
    try:
        index = open_source(run.config.image_source).index()
    except ProjectError as error:
        return None, f", without labels: {error}"
    predicted = {commit.identity.get("data_sha256") for commit in table.commits()}
    if index.sha256 not in predicted:
        return None, ", without labels: the images have changed since they were predicted"
    if predicted != {index.sha256}:
        return index, "; some columns are of images as they were before, or of other images"
    return index, ""
