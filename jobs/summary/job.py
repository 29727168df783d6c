"""`ensemble summary`: runs of one config that differ in their seed, as Markdown tables of mean ± sd."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.report.documents.run import Report, Result
from ensemble.statistics import mean_sd, spread
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store, read_if_there
from jobs.settings import SHARED_FOLDER
from jobs.stored_runs.layout import CONFIG, REPORT, not_a_run
from jobs.summary.subclassifiers import whole_test, within_clusters


def choose_runs(
    places: Sequence[str], storage: StorageConfig | None = None
) -> tuple[list[str], list[str]]:
    """Divide places, such as a shell makes of runs/*, into finished runs and all else.

    Returns:
        The places of finished runs, and a sentence for each other place.

    Raises:
        ConfigError: No place is the folder of a finished run.
    """
    runs, notes = list[str](), list[str]()
    for place in places:
        reason = _why_no_run(place, storage or StorageConfig())
        if reason is None:
            runs.append(place)
        else:
            notes.append(f"left out {place}: {reason}")
    if not runs and len(places) == 1:
        raise not_a_run(places[0], f"{REPORT}, as a finished run has")
    if not runs:
        raise ConfigError("\n".join(["no finished run is among the folders:", *notes]))
    return runs, notes


def _why_no_run(place: str, storage: StorageConfig) -> str | None:
    if not place.startswith(S3_SCHEME) and Path(place).is_file():
        return "it is a file"
    if Path(place).name == SHARED_FOLDER:
        return "it holds the weights that runs share"
    files = open_store(place, storage)
    if read_if_there(files, REPORT) is not None:
        return None
    if read_if_there(files, CONFIG) is not None:
        return f"the run is not finished, or is of imported predictions: it has no {REPORT}"
    return "it is not the folder of a run"


def summarise(
    places: Sequence[str | Path],
    storage: StorageConfig | None = None,
    has_members: bool = False,
) -> str:
    """Make Markdown tables over runs: error at the runs' k and its difference to the best member, in per cent.

    Where k is above 1 the top-1 error stands beside it.

    Where all runs have sub-classifiers, also the tables of P2: accuracy on the whole test split, and within
    label clusters for each number of them.

    Args:
        places: Folders of runs, or s3://bucket/prefix of each.
        storage: How S3 is reached.
        has_members: Add a table of the members, each alone.

    Raises:
        ConfigError: A folder holds no report, or the runs differ in more than their seed.
    """
    reports = [_read(open_store(place, storage or StorageConfig())) for place in places]
    _check_alike(places, reports)
    k = reports[0].k
    lines = [
        f"| predictor | members | top-{k} error, % |{' top-1 error, % |' if k > 1 else ''} against best "
        f"member, points | n = {len(reports)} seeds, {reports[0].best.score.n} test images each: "
        "significantly better / worse | recommended in |",
        f"|---|---|---|{'---|' if k > 1 else ''}---|---|---|",
    ]
    # A search that makes the same weights in one run and not in another has a row in some runs only.
    keys = dict.fromkeys(result.key for report in reports for result in report.results)
    for key in keys:
        rows = [(report, r) for report in reports for r in report.results if r.key == key]
        lines.append(_line(rows))
    if has_members:
        lines += ["", *members_alone(reports)]
    parts = [report.subclassifiers for report in reports if report.subclassifiers]
    if len(parts) == len(reports):
        lines += ["", *whole_test(parts, reports[0].best.score.n)]
        lines += ["", *within_clusters(parts, reports[0].top_k)]
    return "\n".join(lines)


def members_alone(reports: Sequence[Report]) -> list[str]:
    """Make the table of the members, each alone on the test split, in the order of the pool.

    Where members keep their views apart, each view has a row. Seconds are those of the training; a snapshot has
    none of its own.
    """
    lines = [
        f"| member | top-{reports[0].k} error, % | NLL, nats | in the ensemble of | training, s |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(member.name for report in reports for member in report.members):
        rows = [(report, m) for report in reports for m in report.members if m.name == name]
        seconds = [r.execution.training_seconds.get(name) for r, _ in rows]
        cells = [
            name,
            spread([100 * report.error(member.test) for report, member in rows]),
            spread([member.test.nll for _, member in rows]),
            f"{sum(member.selected for _, member in rows)} of {len(rows)}",
            spread([s for s in seconds if s is not None]) if any(seconds) else "",
        ]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return lines


def _check_alike(places: Sequence[str | Path], reports: Sequence[Report]) -> None:
    """Refuse runs whose figures are of different things."""
    places_by_kind: dict[str, list[str]] = {}
    for place, report in zip(places, reports, strict=True):
        kind = (
            f"{report.data.source}, {len(report.members)} members, {report.best.score.n} test images, "
            f"top-{report.k}"
        )
        places_by_kind.setdefault(kind, []).append(str(place))
    if len(places_by_kind) > 1:
        lines = (f"  {kind}: {' '.join(places_by_kind[kind])}" for kind in sorted(places_by_kind))
        raise ConfigError(
            "the runs differ in images, members, test images or k. Expected runs of one config that "
            "differ in their seed; these are alike:\n" + "\n".join(lines)
        )


def _read(files: Store) -> Report:
    text = read_if_there(files, REPORT)
    if text is None:
        raise not_a_run(files.url, f"{REPORT}, as a finished run has")
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(
            f"{files.url}/{REPORT} is not a report of this version. Expected the folder of a run that "
            "this version has finished; `ensemble resume` with that folder writes the report again."
        ) from error


def _line(results: Sequence[tuple[Report, Result]]) -> str:
    rows = [row for _, row in results]
    members = mean_sd([float(row.members) for row in rows])
    cells = [_label(rows[0]), f"{members.mean:.1f}"]
    cells.append(spread([100 * report.error(row.score) for report, row in results]))
    if results[0][0].k > 1:
        cells.append(spread([100 * row.score.top1_error for row in rows]))
    differences = [row.against_best for row in rows if row.against_best is not None]
    if differences:
        gains = [100 * difference.difference for difference in differences]
        better = sum(difference.verdict == "better" for difference in differences)
        worse = sum(difference.verdict == "worse" for difference in differences)
        cells += [spread(gains, "+"), f"{better} / {worse}"]
    else:
        cells += ["", ""]
    cells.append(str(sum(row.chosen for row in rows)))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _label(row: Result) -> str:
    """Name a row without what differs by seed."""
    if row.key == "uniform_selected":
        return "uniform over the selected"
    if row.key == "ensemble_subclassifiers":
        return "with sub-classifiers"
    return row.label.split(" (")[0]
