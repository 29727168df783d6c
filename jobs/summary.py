"""Several runs of one config, by seed, as one table: mean ± sd of every row, and of its gain."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ensemble.errors import ConfigError, DamagedTableError
from ensemble.report.document import Report, Result
from ensemble.statistics import mean_sd
from ensemble.table.storage import StorageConfig, open_store
from ensemble.table.store import Store
from jobs.summary_subclassifiers import spread, whole_test, within_clusters


def summarise(places: Sequence[str | Path], storage: StorageConfig | None = None) -> str:
    """Markdown tables over runs: top-1 error and its difference to the best member, in per cent.

    Where all runs have sub-classifiers, also the tables of P2: accuracy on the whole test split, and within
    label clusters for each number of them.

    Args:
        places: Folders of runs, or s3://bucket/prefix of each.
        storage: How S3 is reached.

    Raises:
        ConfigError: A folder holds no report, or the runs are not of one kind.
    """
    reports = [_read(open_store(place, storage or StorageConfig())) for place in places]
    kinds = {(report.data.source, len(report.members), report.best.score.n) for report in reports}
    if len(kinds) > 1:
        raise ConfigError(
            f"the runs differ in images, members or test images: {sorted(kinds)}. Expected runs of "
            "one config that differ in their seed."
        )
    lines = [
        f"| predictor | members | top-1 error, % | against best member, points | n = {len(reports)} "
        f"seeds, {reports[0].best.score.n} test images each: significantly better / worse |",
        "|---|---|---|---|---|",
    ]
    for key in [result.key for result in reports[0].results]:
        rows = [next(r for r in report.results if r.key == key) for report in reports]
        lines.append(_line(rows))
    parts = [report.subclassifiers for report in reports if report.subclassifiers]
    if len(parts) == len(reports):
        lines += ["", *whole_test(parts, reports[0].best.score.n)]
        lines += ["", *within_clusters(parts, reports[0].top_k)]
    return "\n".join(lines)


def _read(files: Store) -> Report:
    try:
        return Report.model_validate_json(files.read("report.json"))
    except DamagedTableError as error:
        raise ConfigError(
            f"{files.url}/report.json is not there. Expected the folder of a finished run."
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{files.url}/report.json is not a report of this version.") from error


def _line(rows: Sequence[Result]) -> str:
    label = rows[0].label.split(" (")[0]
    if rows[0].key == "uniform_selected":
        label = "uniform over the selected"
    members = mean_sd([float(row.members) for row in rows])
    errors = [100 * row.score.top1_error for row in rows]
    differences = [row.against_best for row in rows if row.against_best is not None]
    if not differences:
        return f"| {label} | {members.mean:.1f} | {spread(errors)} | | |"
    gains = [100 * difference.difference for difference in differences]
    better = sum(difference.verdict == "better" for difference in differences)
    worse = sum(difference.verdict == "worse" for difference in differences)
    return (
        f"| {label} | {members.mean:.1f} | {spread(errors)} "
        f"| {spread(gains, '+')} | {better} / {worse} |"
    )
