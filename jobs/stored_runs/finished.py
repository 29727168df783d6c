"""The table of a finished run, opened without its models: splits, columns, costs, outranking tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import ConfigError, DamagedTableError, TableError
from ensemble.evaluation.calibration import Temperature, at_temperature, calibrate
from ensemble.evaluation.metrics import pooled
from ensemble.evaluation.outcome import Outcome, evaluate, evaluate_weightings
from ensemble.evaluation.reading import (
    ColumnAtTemperature,
    build_outranking,
    read_windows,
)
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.split import Splits, split
from ensemble.outranking.combine import Combine
from ensemble.outranking.table import OutrankingTable
from ensemble.outranking.weighting import Weighting
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.columns import Column, find_columns
from jobs.stored_runs.layout import REPORT
from jobs.stored_runs.open import open_run


@dataclass(frozen=True)
class FinishedRun:
    """What a search reads from a finished run.

    Attributes:
        name: Name of the run's folder.
        files: Store of the run's folder.
        config: The run's settings.
        splits: The run's images, without those that could not be decoded.
        data_sha256: Identity of the image index.
        table: The logit table.
        columns: One column for each member, in pool order.
    """

    name: str
    files: Store
    config: RunConfig
    splits: Splits
    data_sha256: str
    table: LogitTable
    columns: tuple[Column, ...]

    @property
    def families(self) -> dict[str, str]:
        """Give each member's architecture."""
        return {column.member: column.family for column in self.columns}

    @property
    def costs(self) -> dict[str, dict[str, float]]:
        """Give what the run measured, by unit and member; a unit is there if all members have it."""
        units = self.columns[0].costs
        measured = {unit: {c.member: c.costs[unit] for c in self.columns} for unit in units}
        for unit, costs in _costs_in_report(self.files).items():
            if costs.keys() >= self.families.keys():
                measured[unit] = {name: costs[name] for name in self.families}
        return {unit: costs for unit, costs in measured.items() if all(costs.values())}


def open_finished_run(place: Path | str, words: Sequence[str] = ()) -> FinishedRun:
    """Open a run's folder, or its prefix on S3, without its models.

    Args:
        place: The folder, or s3://bucket/prefix.
        words: How S3 is reached, of the form storage.key=value.

    Raises:
        ConfigError: The place is not the folder of a run, or the run has not computed every prediction.
        DataError: The images are not those that were predicted.
    """
    run = open_run(place, words)
    config = run.config
    index = open_source(config.image_source).index()
    splits = split(index, config.images.split, config.seed)
    table = LogitTable(run.table)
    if not table.commits():
        raise ConfigError(f"the run {str(place)!r} has no table yet. Run it first: `ensemble run`.")
    columns = find_columns(run, table, index)
    splits = _without_bad(table, columns, splits)
    image_ids = [*splits.search.image_ids.tolist(), *splits.test.image_ids.tolist()]
    for column in columns:
        if missing := table.missing(column.key, image_ids):
            raise ConfigError(
                f"the run {str(place)!r} is not finished: {len(missing)} of {len(image_ids)} images have "
                f"no prediction of {column.member!r}. The same `ensemble run` goes on with it."
            )
    return FinishedRun(run.name, run.files, config, splits, index.sha256, table, columns)


def fit_temperatures(run: FinishedRun, images: ImageIndex, seed: int) -> dict[str, Temperature]:
    """Calibrate every member on some images, one at a time."""
    return {
        column.member: calibrate(run.table.read(column.key, images.image_ids), images.labels, seed)
        for column in run.columns
    }


def read_outranking(
    run: FinishedRun,
    images: ImageIndex,
    temperatures: Mapping[str, Temperature],
    combines: Sequence[Combine] = ("probabilities",),
) -> OutrankingTable:
    """Build the outranking table of some images, a window at a time.

    Args:
        run: The run.
        images: Images of it.
        temperatures: Temperatures of members, by name; 1 where a member has none.
        combines: Means of what the search is about, as `SearchConfig.combines` says.

    Raises:
        TableError: The table is damaged.
    """
    return build_outranking(run.table, at_temperatures(run, temperatures), images, 2, combines)


def evaluate_members(
    run: FinishedRun, images: ImageIndex, temperatures: Mapping[str, Temperature]
) -> dict[str, Outcome]:
    """Judge every member on some images, by name."""
    return evaluate(run.table, at_temperatures(run, temperatures), images, {})


def evaluate_averages(
    run: FinishedRun,
    images: ImageIndex,
    temperatures: Mapping[str, Temperature],
    weightings: Mapping[str, Weighting],
    average_temperatures: Mapping[str, float],
) -> dict[str, Outcome]:
    """Judge averages of the members on some images, by key.

    Args:
        run: The run.
        images: Images of it.
        temperatures: Temperatures of members, by name; 1 where a member has none.
        weightings: Weights of the members by the key of the average.
        average_temperatures: Temperatures of averages, by key; 1 where an average has none.
    """
    columns = at_temperatures(run, temperatures)
    return evaluate_weightings(run.table, columns, images, weightings, average_temperatures)


def average_logs(
    run: FinishedRun,
    images: ImageIndex,
    temperatures: Mapping[str, Temperature],
    weighting: Weighting,
) -> Float[np.ndarray, "image class"]:
    """Give the log of the probabilities that members have together."""
    parts = []
    for rows, _ in read_windows(run.table, at_temperatures(run, temperatures), images):
        with np.errstate(divide="ignore"):
            parts.append(np.log(pooled(rows, weighting)))
    return np.concatenate(parts)


def average_windows(
    run: FinishedRun,
    images: ImageIndex,
    temperatures: Mapping[str, Temperature],
    weighting: Weighting,
    temperature: float,
) -> Iterator[tuple[Float[np.ndarray, "image class"], Int[np.ndarray, " image"]]]:
    """Give the probabilities that members have together at a temperature, and labels, by windows."""
    for rows, labels in read_windows(run.table, at_temperatures(run, temperatures), images):
        yield at_temperature(pooled(rows, weighting), temperature), labels


def at_temperatures(
    run: FinishedRun, temperatures: Mapping[str, Temperature]
) -> tuple[ColumnAtTemperature, ...]:
    """Give the run's columns at the temperatures of their members; at 1 where a member has none."""
    return tuple(
        ColumnAtTemperature(
            column.member,
            column.key,
            temperatures[column.member].value if column.member in temperatures else 1.0,
        )
        for column in run.columns
    )


def _without_bad(table: LogitTable, columns: tuple[Column, ...], splits: Splits) -> Splits:
    """Leave out, for every member alike, what could not be decoded."""
    bad = {image.image_id for image in table.bad_images(column.key for column in columns)}
    return splits.without(bad) if bad else splits


def _costs_in_report(files: Store) -> dict[str, dict[str, float]]:
    """Read the members' parameters and depths from the run's report, if there is one; 0 if not known."""
    try:
        members = json.loads(files.read(REPORT))["members"]
        return {
            unit: {str(member["name"]): float(member.get(unit) or 0) for member in members}
            for unit in ("parameters", "depth")
        }
    except DamagedTableError:
        return {}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise TableError(
            f"{files.url}/{REPORT} is not a report of this project ({error!r}). Remove it, or run "
            "the job again."
        ) from error
