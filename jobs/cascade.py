"""The cascade job: from a finished run's table, the order and thresholds that keep a promise at least cost."""

import math
from collections.abc import Sequence
from pathlib import Path

from ensemble.cascade.fit import LEVEL, Cascade, fit, frontier, orders
from ensemble.cascade.readings import Readings, read
from ensemble.cascade.steps import Order
from ensemble.cascade.thresholds import Effect, effect
from ensemble.errors import ConfigError
from ensemble.evaluation.reading import read_windows
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.outranking.measures import member_errors
from ensemble.report.build.diagnostics import sets_on_test
from ensemble.report.documents.cascade import (
    CascadeEffect,
    CascadeReport,
    CascadeSeconds,
    CascadeStep,
)
from ensemble.search.fit import fit as fit_weights
from ensemble.search.result import Ensemble
from ensemble.search.weights import best_member
from ensemble.statistics import score_bounds
from jobs.search_settings import search_settings
from jobs.stored_runs.finished import (
    FinishedRun,
    at_temperatures,
    fit_temperatures,
    open_finished_run,
    read_outranking,
)
from jobs.stored_runs.open import split_words


def cascade(
    place: Path | str,
    words: Sequence[str],
    lose_points: float,
    saves: bool = False,
    measures: bool = False,
) -> tuple[CascadeReport, str]:
    """Fit a cascade of a finished run's ensemble, and write its report into the run's folder.

    Args:
        place: The run's folder, or s3://bucket/prefix.
        words: Settings of the search that finds the weights, of the form key=value; those of storage say how S3
            is reached.
        lose_points: Percentage points of error that the cascade may lose to the whole ensemble.
        saves: Write an artifact of the cascade, too, into the folder `ensemble` beside the report.
        measures: Answer test images with that artifact, and report the wall time beside the predicted one.

    Returns:
        The report, and where it is.

    Raises:
        ConfigError: The folder is not that of a finished run, a setting is wrong, the run did not measure the
            cost of each member, or there are too few images for the promise.
    """
    if measures and not saves:
        raise ConfigError("--measure runs the artifact that --save writes. Add --save.")
    if not 0 < lose_points < 100:
        raise ConfigError(
            f"--lose is {lose_points:g}; expected percentage points of error above 0, such as 0.1."
        )
    storage, words = split_words(words)
    run = open_finished_run(place, storage)
    config = search_settings(words, run.config.search, run.costs, run.families)
    search, names = config.search, list(run.families)
    if not search.costs:
        raise ConfigError(
            f"the run {str(place)!r} did not measure cost={search.cost} for every member. Measured: "
            f"{', '.join(run.costs) or 'nothing'}. Add cost=UNIT with one of these, or costs={{NAME: COST, …}}."
        )
    temperatures = (
        fit_temperatures(run, run.splits.search, search.seed) if config.temperature else {}
    )
    table = read_outranking(run, run.splits.search, temperatures, search.combines)
    ensemble = fit_weights(table, search)
    costs = [search.costs[name] for name in names]
    errors = member_errors(table, search.error_k).tolist()

    def read_images(images: ImageIndex, proposed: Sequence[Order]) -> tuple[Readings, ...]:
        windows = read_windows(run.table, at_temperatures(run, temperatures), images)
        return read(windows, ensemble.weighting, costs, proposed, search.error_k)

    fitted = read_images(run.splits.search, orders(ensemble.weighting, costs, errors))
    chosen = fit(fitted, lose_points / 100, search.seed)
    (test,) = read_images(run.splits.test, [chosen.order])
    best = best_member(table, search)
    (alone,) = read_images(run.splits.test, [(best, *(m for m in chosen.order if m != best))])
    judged = effect(test, chosen.signal, chosen.thresholds)
    full_error = float(test.is_error[-1].mean())
    report = CascadeReport(
        run=run.name,
        k=search.error_k,
        search=ensemble.search,
        signal=chosen.signal,
        cost_unit=search.cost,
        lose=chosen.lose,
        steps=_steps(chosen, judged, names, ensemble, costs),
        fitted=_document(chosen.fitted, chosen.full_cost),
        test=_document(judged, chosen.full_cost),
        errors={
            "cascade": full_error + judged.loss,
            "ensemble": full_error,
            "best": float(alone.is_error[0].mean()),
        },
        best_member=names[best],
        best_member_cost=costs[best],
        frontier=_frontier(next(r for r in fitted if r.order == chosen.order), chosen, search.seed),
    )
    folder = f"cascade/lose-{lose_points:g}-{ensemble.search}-k{report.k}"
    if saves:
        # Here, because a cascade that is not saved needs no weights.
        from jobs.save_cascade import save_cascade

        saved, sets = save_cascade(
            run, temperatures, ensemble, chosen, report, folder, config.coverage
        )
        on_test = sets_on_test("the cascade", sets)
        report = report.model_copy(update={"sets": on_test})
        if measures:
            seconds = _measure(run, saved, storage)
            report = report.model_copy(update={"seconds": seconds})
    text = report.model_dump_json(indent=2) + "\n"
    run.files.replace(f"{folder}/cascade-report.json", text.encode())
    return report, f"{run.files.url}/{folder}/cascade-report.json"


def _measure(run: FinishedRun, place: str, storage: Sequence[str]) -> CascadeSeconds:
    # Here, because torch takes seconds to import.
    from jobs.artifacts import bring_artifact
    from jobs.cascade_time import measure_cascade

    source = open_source(run.config.image_source)
    artifact = bring_artifact(place, storage)
    return measure_cascade(artifact.path, source, run.splits.test, run.config.cluster.shard_images)


def _steps(
    chosen: Cascade,
    judged: Effect,
    names: Sequence[str],
    ensemble: Ensemble,
    costs: Sequence[float],
) -> tuple[CascadeStep, ...]:
    steps = zip(chosen.order, chosen.thresholds.tolist(), judged.exits, strict=True)
    return tuple(
        CascadeStep(
            member=names[member],
            weight=float(ensemble.weights[member]),
            cost=costs[member],
            threshold=threshold if math.isfinite(threshold) else None,
            exits=exits,
        )
        for member, threshold, exits in steps
    )


def _frontier(readings: Readings, chosen: Cascade, seed: int) -> tuple[CascadeEffect, ...]:
    """The cascades that none with less loss is cheaper than, from the one that loses least."""
    effects = sorted(
        frontier(readings, chosen.signal, seed), key=lambda each: (each.loss, each.cost)
    )
    kept: list[Effect] = []
    for each in effects:
        if not kept or each.cost < kept[-1].cost:
            kept.append(each)
    return tuple(_document(each, chosen.full_cost) for each in kept)


def _document(judged: Effect, full_cost: float) -> CascadeEffect:
    _, bound = score_bounds(judged.newly_wrong, judged.newly_right, judged.num_images, LEVEL)
    return CascadeEffect(
        num_images=judged.num_images,
        loss=judged.loss,
        bound=bound,
        cost=judged.cost,
        speedup=full_cost / judged.cost,
    )
