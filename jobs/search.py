"""The search job: weights on the table of a finished run, in seconds, with no model, torch or Ray."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ensemble.errors import ConfigError
from ensemble.evaluation.broken import SoundMembers, count_broken, leave_out_broken
from ensemble.evaluation.calibration import Temperature, apply_temperature, calibrate
from ensemble.evaluation.conformal import (
    ConformalSets,
    JudgedSets,
    fit_sets,
    judge_sets,
)
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import ColumnAtTemperature
from ensemble.evaluation.suspects import describe_suspects
from ensemble.images.index import ImageIndex
from ensemble.images.settings import describe_source
from ensemble.members.identity import fingerprint
from ensemble.members.source_settings import ImportedSource
from ensemble.outranking.table import OutrankingTable
from ensemble.outranking.weighting import Weighting
from ensemble.report.build.search import CALIBRATED, RunIdentity, SearchFindings, build
from ensemble.report.documents import search as document
from ensemble.report.pages.search import render
from ensemble.search.comparison import (
    JudgedPredictor,
    Predictor,
    judge,
    judge_cross_fitted,
    predictors,
)
from ensemble.search.crossfit import stratified_folds
from ensemble.search.fallbacks import find_fallbacks, settings_without
from ensemble.search.fit import fit
from ensemble.search.frontier import cost_frontier
from ensemble.search.recommend import answering, recommend
from ensemble.search.result import Ensemble
from ensemble.search.stability import Stability, bootstrap
from jobs.search_settings import SearchJobConfig, search_settings
from jobs.stored_runs.finished import (
    FinishedRun,
    average_logs,
    average_windows,
    evaluate_averages,
    evaluate_members,
    fit_temperatures,
    open_finished_run,
    read_outranking,
)
from jobs.stored_runs.open import split_words


def search(
    place: Path | str, words: Sequence[str], saves: bool = False
) -> tuple[document.SearchReport, str]:
    """Search weights on a finished run, and write a report into its folder.

    Args:
        place: The run's folder, or s3://bucket/prefix.
        words: Settings of the form key=value; those of storage say how S3 is reached.
        saves: Write an artifact of the weights, too, into the folder `ensemble` beside the page.

    Returns:
        The report, and where the page made from it is.

    Raises:
        ConfigError: The folder is not that of a finished run, or a setting is wrong.
    """
    began = time.perf_counter()
    storage, words = split_words(words)
    run, sound = _without_broken(open_finished_run(place, storage))
    config = search_settings(words, run.config.search, run.costs, run.families)
    search = settings_without(config.search, sound.left_out)
    config = config.model_copy(update={"search": search})
    _check_k(config, run)
    findings = _find(run, config, sound.notes)
    report = build(
        RunIdentity(
            run.name,
            run.config.identity,
            run.data_sha256,
            run.families,
            all(isinstance(member.source, ImportedSource) for member in run.config.members),
        ),
        config.model_dump(mode="json"),
        config.search,
        findings,
        document.Execution(
            seconds=time.perf_counter() - began,
            images=describe_source(run.config.image_source),
            versions={"python": platform.python_version(), "numpy": version("numpy")},
        ),
    )
    # Without the coverage, which changes no weight: a search has the folder that it had before there was one.
    settings = fingerprint(config.model_dump(mode="json", exclude={"coverage"}))[:8]
    folder = f"search/{config.search.kind}-k{report.k}-{settings}"
    text = report.model_dump_json(indent=2) + "\n"
    if saves:
        # Here, because a search that saves nothing needs no weights.
        from jobs.save_search import save_search

        save_search(run, _images(run, config), config.search, findings, report, folder)
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


def _find(run: FinishedRun, config: SearchJobConfig, notes: tuple[str, ...]) -> SearchFindings:
    images, search = _images(run, config), config.search
    temperatures = _temperatures(run, images, config)
    table = read_outranking(run, images, temperatures, search.combines)
    ensemble = fit(table, search)
    recommendation = recommend(table, search, ensemble)
    compared = predictors(table, search, ensemble)
    answer = answering(compared, recommendation, search).ensemble.weighting
    conformal, sets = _sets(run, config, images, temperatures, answer)
    if config.coverage is not None and conformal is None:
        notes = (
            *notes,
            f"{len(images)} search images cannot promise sets that hold the label with a probability of "
            f"{config.coverage:g}: answers have none.",
        )
    logs = average_logs(run, images, temperatures, ensemble.weighting)
    average, on_test = calibrate(logs, images.labels, search.seed), {}
    if config.cross_fit:
        judged, rows = table, _cross_fitted(run, images, table, config)
    else:
        judged = read_outranking(run, run.splits.test, temperatures, search.combines)
        rows = judge(judged, compared, config.resamples)
        on_test = _on_test(run, temperatures, compared, recommendation.key, average)
    return SearchFindings(
        table=table,
        judged=judged,
        ensemble=ensemble,
        predictors=rows,
        temperatures=temperatures,
        average=average,
        stability=_stability(table, ensemble, config),
        frontier=cost_frontier(table, search, [ensemble], resamples=config.resamples)
        if search.costs
        else (),
        fallbacks=find_fallbacks(table, ensemble, search),
        cost_unit=_cost_unit(run, config),
        recommendation=recommendation,
        notes=(
            *notes,
            *describe_suspects(
                evaluate_members(run, images, temperatures), images.labels, images.classes
            ),
        ),
        costs=run.costs,
        test=images if config.cross_fit else run.splits.test,
        on_test=on_test,
        conformal=conformal,
        sets=sets,
    )


def _sets(
    run: FinishedRun,
    config: SearchJobConfig,
    images: ImageIndex,
    temperatures: dict[str, Temperature],
    weighting: Weighting,
) -> tuple[ConformalSets | None, JudgedSets | None]:
    """Fit conformal sets of what an artifact answers with, and judge them on the test images if these are others."""
    if config.coverage is None:
        return None, None
    logs = average_logs(run, images, temperatures, weighting)
    temperature = calibrate(logs, images.labels, config.search.seed).value
    probabilities = np.exp(apply_temperature(logs, temperature))
    sets = fit_sets(probabilities, images.labels, config.coverage)
    if sets is None or config.cross_fit:
        return sets, None
    test = average_windows(run, run.splits.test, temperatures, weighting, temperature)
    return sets, judge_sets(sets, test)


def _on_test(
    run: FinishedRun,
    temperatures: dict[str, Temperature],
    compared: Sequence[Predictor],
    recommended: str,
    average: Temperature,
) -> dict[str, Outcome]:
    """Judge the best member, what is recommended and the ensemble image by image on the test split."""
    by_key = {str(row.key): row.ensemble.weighting for row in compared}
    weightings = {key: by_key[key] for key in dict.fromkeys(("best", recommended, "ensemble"))}
    at = {}
    if average.is_kept:
        weightings[CALIBRATED], at = by_key["ensemble"], {CALIBRATED: average.value}
    return evaluate_averages(run, run.splits.test, temperatures, weightings, at)


def _without_broken(run: FinishedRun) -> tuple[FinishedRun, SoundMembers]:
    """Leave out the members whose predictions are no numbers."""
    columns = [ColumnAtTemperature(column.member, column.key) for column in run.columns]
    num_broken = count_broken(run.table, columns, run.splits.search)
    names = [column.name for column in columns]
    sound = leave_out_broken(names, num_broken, len(run.splits.search))
    return replace(run, columns=tuple(run.columns[index] for index in sound.kept)), sound


def _stability(
    table: OutrankingTable, ensemble: Ensemble, config: SearchJobConfig
) -> Stability | None:
    if not config.stability:
        return None
    seed, limit_s = config.search.seed, config.stability_limit_s
    return bootstrap(table, ensemble, config.search, config.stability, seed, limit_s)


def _cross_fitted(
    run: FinishedRun, images: ImageIndex, table: OutrankingTable, config: SearchJobConfig
) -> tuple[JudgedPredictor, ...]:
    """Judge on each half what was fitted on the other, temperatures included."""
    folds = stratified_folds(images.labels, 2, config.search.seed)
    tables = [table, table]
    if config.temperature:
        seen = [images.take(np.flatnonzero(folds != fold)) for fold in (0, 1)]
        tables = [
            read_outranking(run, images, _temperatures(run, part, config), config.search.combines)
            for part in seen
        ]
    return judge_cross_fitted(tables, folds, config.search, config.resamples)


def _temperatures(
    run: FinishedRun, images: ImageIndex, config: SearchJobConfig
) -> dict[str, Temperature]:
    return fit_temperatures(run, images, config.search.seed) if config.temperature else {}


def _images(run: FinishedRun, config: SearchJobConfig) -> ImageIndex:
    """Give the images that weights are fitted on."""
    images = run.splits.search
    return _joined(images, run.splits.test) if config.cross_fit else images


def _joined(first: ImageIndex, second: ImageIndex) -> ImageIndex:
    return ImageIndex(
        first.source,
        np.concatenate([first.image_ids, second.image_ids]),
        np.concatenate([first.labels, second.labels]),
        first.classes,
    )


def _cost_unit(run: FinishedRun, config: SearchJobConfig) -> str | None:
    if not config.search.costs:
        return None
    unit = config.search.cost
    return unit if config.search.costs == run.costs.get(unit) else "as given"
