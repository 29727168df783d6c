"""The search job: weights on the table of a finished run, in seconds, with no model, torch or Ray."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ensemble.errors import ConfigError
from ensemble.evaluation.calibration import Temperature, calibrate
from ensemble.images.index import ImageIndex
from ensemble.members.identity import fingerprint
from ensemble.outranking.table import OutrankingTable
from ensemble.report.build.weights import frontier_lines, member_lines, stability_summary
from ensemble.report.documents import search as document
from ensemble.report.pages.search import render
from ensemble.search.comparison import (
    Comparison,
    Judged,
    judge,
    judge_cross_fitted,
    predictors,
    warnings,
)
from ensemble.search.crossfit import stratified_folds
from ensemble.search.explain import explain
from ensemble.search.fallbacks import weights_without_each
from ensemble.search.fit import fit
from ensemble.search.frontier import FrontierPoint, cost_frontier
from ensemble.search.result import Ensemble
from ensemble.search.stability import bootstrap
from jobs.search_settings import SearchJobConfig, search_settings
from jobs.stored_runs.finished import (
    FinishedRun,
    average_logs,
    fit_temperatures,
    open_finished_run,
    read_outranking,
)
from jobs.stored_runs.open import split_words


@dataclass(frozen=True)
class Found:
    """What the search came to, before it is put into words.

    Attributes:
        fitted: The table that weights were fitted on.
        judged: The table that figures are reported on; the same where it is cross-fitted.
        ensemble: The weights.
        rows: What is compared.
        temperatures: By member; empty where none were asked for.
        average: Temperature of the average.
    """

    fitted: OutrankingTable
    judged: OutrankingTable
    ensemble: Ensemble
    rows: tuple[Judged, ...]
    temperatures: dict[str, Temperature]
    average: Temperature


def search(place: Path | str, words: Sequence[str]) -> tuple[document.SearchReport, str]:
    """Search weights on a finished run, and write a report into its folder.

    Args:
        place: The run's folder, or s3://bucket/prefix.
        words: Settings of the form key=value; those of storage say how S3 is reached.

    Returns:
        The report, and where the page made from it is.

    Raises:
        ConfigError: The folder is not that of a finished run, or a setting is wrong.
    """
    began = time.perf_counter()
    storage, words = split_words(words)
    run = open_finished_run(place, storage)
    config = search_settings(words, run.config.search, run.costs, run.families)
    _check_k(config, run)
    found = _find(run, config)
    report = _report(run, config, found, began)
    settings = fingerprint(config.model_dump(mode="json"))[:8]
    folder = f"search/{config.search.kind}-k{report.k}-{settings}"
    text = report.model_dump_json(indent=2) + "\n"
    run.files.replace(f"{folder}/search-report.html", render(report).encode())
    run.files.replace(f"{folder}/search-report.json", text.encode())
    return report, f"{run.files.url}/{folder}/search-report.html"


def _check_k(config: SearchJobConfig, run: FinishedRun) -> None:
    num_classes = len(run.splits.test.classes)
    if config.search.error_k >= num_classes:
        raise ConfigError(
            f"k is {config.search.error_k}, and there are {num_classes} classes: nothing could be "
            f"an error. Set k to {num_classes - 1} or less."
        )


def _find(run: FinishedRun, config: SearchJobConfig) -> Found:
    images = run.splits.search
    if config.cross_fit:
        images = _joined(images, run.splits.test)
    temperatures = _temperatures(run, images, config)
    fitted = read_outranking(run, images, temperatures)
    ensemble = fit(fitted, config.search)
    if config.cross_fit:
        judged, rows = fitted, _cross_fitted(run, images, fitted, config)
    else:
        judged = read_outranking(run, run.splits.test, temperatures)
        rows = judge(judged, predictors(fitted, config.search, ensemble), config.resamples)
    logs = average_logs(run, images, temperatures, ensemble.normalised)
    average = calibrate(logs, images.labels, config.search.seed)
    return Found(fitted, judged, ensemble, rows, temperatures, average)


def _cross_fitted(
    run: FinishedRun, images: ImageIndex, table: OutrankingTable, config: SearchJobConfig
) -> tuple[Judged, ...]:
    """Judge on each half what was fitted on the other, temperatures included."""
    folds = stratified_folds(images.labels, 2, config.search.seed)
    tables = [table, table]
    if config.temperature:
        seen = [images.take(np.flatnonzero(folds != fold)) for fold in (0, 1)]
        tables = [read_outranking(run, images, _temperatures(run, part, config)) for part in seen]
    return judge_cross_fitted(tables, folds, config.search, config.resamples)


def _temperatures(
    run: FinishedRun, images: ImageIndex, config: SearchJobConfig
) -> dict[str, Temperature]:
    return fit_temperatures(run, images, config.search.seed) if config.temperature else {}


def _joined(first: ImageIndex, second: ImageIndex) -> ImageIndex:
    return ImageIndex(
        first.source,
        np.concatenate([first.image_ids, second.image_ids]),
        np.concatenate([first.labels, second.labels]),
        first.classes,
    )


def _report(
    run: FinishedRun, config: SearchJobConfig, found: Found, began: float
) -> document.SearchReport:
    fitted, ensemble, settings = found.fitted, found.ensemble, config.search
    stability = None
    if config.stability:
        stability = bootstrap(
            fitted,
            ensemble,
            settings,
            config.stability,
            settings.seed,
            config.stability_limit_s,
        )
    frontier: tuple[FrontierPoint, ...] = ()
    if settings.costs:
        frontier = cost_frontier(fitted, settings, [ensemble], resamples=config.resamples)
    judged = [found.judged.errors(point.ensemble.units, ensemble.k) for point in frontier]
    return document.SearchReport(
        run=run.name,
        config_sha256=run.config.identity,
        data_sha256=run.data_sha256,
        settings=config.model_dump(mode="json"),
        search=ensemble.search,
        k=ensemble.k,
        classes=fitted.num_classes,
        search_images=fitted.num_images,
        judged_images=found.judged.num_images,
        is_cross_fitted=config.cross_fit,
        cost_unit=_cost_unit(run, config),
        warnings=warnings(fitted, ensemble),
        results=tuple(_predictor(row, found) for row in found.rows),
        members=member_lines(
            explain(fitted, ensemble, settings),
            stability,
            run.families,
            settings.costs,
            {name: temperature.value for name, temperature in found.temperatures.items()},
        ),
        stability=stability_summary(stability),
        frontier=frontier_lines(frontier, judged),
        fallbacks=_fallbacks(config, found),
        average_temperature=document.AverageTemperature(
            value=found.average.value,
            nll_before=found.average.nll_before,
            nll_after=found.average.nll_after,
            is_kept=found.average.is_kept,
        ),
        execution=document.Execution(
            seconds=time.perf_counter() - began,
            versions={"python": platform.python_version(), "numpy": version("numpy")},
        ),
    )


def _cost_unit(run: FinishedRun, config: SearchJobConfig) -> str | None:
    if not config.search.costs:
        return None
    unit = config.search.cost
    return unit if config.search.costs == run.costs.get(unit) else "as given"


def _predictor(row: Judged, found: Found) -> document.Predictor:
    names, search = found.fitted.member_names, found.ensemble.search
    labels = {
        "best": "best member",
        "uniform_all": f"uniform over all {len(names)}",
        "uniform_selected": f"uniform over the {row.members} selected",
        "paper": "paper",
        "chosen": f"chosen: {search}",
    }
    return document.Predictor.model_validate(
        {
            "key": row.key,
            "label": labels[row.key],
            "members": row.members,
            "n": row.n,
            "errors": row.errors,
            "error": row.errors / row.n,
            "nll": row.nll,
            "against_best": _difference(row.against_best),
            "against_uniform": _difference(row.against_uniform),
        }
    )


def _difference(comparison: Comparison | None) -> document.Difference | None:
    if comparison is None:
        return None
    return document.Difference(
        difference=comparison.interval.mean,
        low=comparison.interval.low,
        high=comparison.interval.high,
        level=comparison.interval.level,
        mcnemar_p=comparison.p,
        fixed=comparison.fixed,
        broken=comparison.broken,
    )


def _fallbacks(config: SearchJobConfig, found: Found) -> tuple[document.Fallback, ...]:
    return tuple(
        document.Fallback(
            missing=without.member,
            weights=without.weights,
            search_errors=without.errors,
            search_errors_unchanged=without.errors_unchanged,
        )
        for without in weights_without_each(found.fitted, found.ensemble, config.search)
    )
