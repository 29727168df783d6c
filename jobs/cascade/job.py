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
from ensemble.search.result import Ensemble
from ensemble.search.weights import best_member
from ensemble.statistics import score_bounds
from jobs.cascade.weights import RunWeights, find_weights
from jobs.stored_runs.finished import FinishedRun, at_temperatures
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
    weights = find_weights(place, storage, words)
    search, ensemble, files = weights.search, weights.ensemble, weights.run.files
    errors = member_errors(weights.table, search.error_k).tolist()
    orders_to_try = orders(ensemble.weighting, weights.costs, errors)
    readings = _read(weights, weights.run.splits.search, orders_to_try)
    best = fit(readings, lose_points / 100, search.seed)
    report = _report(weights, readings, best)
    folder = f"cascade/lose-{lose_points:g}-{ensemble.search}-k{report.k}"
    if saves:
        # Here, because a cascade that is not saved needs no weights of networks.
        from jobs.cascade.artifact import save_cascade

        artifact, sets = save_cascade(weights, best, report, folder)
        seconds = _measure(weights.run, artifact, storage) if measures else None
        update = {"sets": sets_on_test("the cascade", sets), "seconds": seconds}
        report = report.model_copy(update=update)
    text = report.model_dump_json(indent=2) + "\n"
    files.replace(f"{folder}/cascade-report.json", text.encode())
    return report, f"{files.url}/{folder}/cascade-report.json"


def _read(
    weights: RunWeights, images: ImageIndex, orders_to_try: Sequence[Order]
) -> tuple[Readings, ...]:
    run, search = weights.run, weights.search
    windows = read_windows(run.table, at_temperatures(run, dict(weights.temperatures)), images)
    return read(windows, weights.ensemble.weighting, weights.costs, orders_to_try, search.error_k)


def _report(weights: RunWeights, readings: Sequence[Readings], best: Cascade) -> CascadeReport:
    """Judge a cascade on the test split, beside the whole ensemble and the best member."""
    search, names, costs = weights.search, weights.names, weights.costs
    test_images = weights.run.splits.test
    (test,) = _read(weights, test_images, [best.order])
    member = best_member(weights.table, search)
    (alone,) = _read(weights, test_images, [(member, *(m for m in best.order if m != member))])
    on_test = effect(test, best.signal, best.thresholds)
    full_error = float(test.is_error[-1].mean())
    return CascadeReport(
        run=weights.run.name,
        k=search.error_k,
        search=weights.ensemble.search,
        signal=best.signal,
        cost_unit=search.cost,
        lose=best.lose,
        steps=_steps(best, on_test, names, weights.ensemble, costs),
        fitted=_document(best.fitted, best.full_cost),
        test=_document(on_test, best.full_cost),
        errors={
            "cascade": full_error + on_test.loss,
            "ensemble": full_error,
            "best": float(alone.is_error[0].mean()),
        },
        best_member=names[member],
        best_member_cost=costs[member],
        frontier=_frontier(next(r for r in readings if r.order == best.order), best, search.seed),
    )


def _measure(run: FinishedRun, place: str, storage: Sequence[str]) -> CascadeSeconds:
    # Here, because torch takes seconds to import.
    from jobs.artifacts import bring_artifact
    from jobs.cascade.seconds import measure_cascade

    source = open_source(run.config.image_source)
    artifact = bring_artifact(place, storage)
    return measure_cascade(artifact.path, source, run.splits.test, run.config.cluster.shard_images)


def _steps(
    best: Cascade,
    on_test: Effect,
    names: Sequence[str],
    ensemble: Ensemble,
    costs: Sequence[float],
) -> tuple[CascadeStep, ...]:
    steps = zip(best.order, best.thresholds.tolist(), on_test.exits, strict=True)
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


def _frontier(readings: Readings, best: Cascade, seed: int) -> tuple[CascadeEffect, ...]:
    """The cascades that none with less loss is cheaper than, from the one that loses least."""
    effects = sorted(frontier(readings, best.signal, seed), key=lambda each: (each.loss, each.cost))
    kept: list[Effect] = []
    for each in effects:
        if not kept or each.cost < kept[-1].cost:
            kept.append(each)
    return tuple(_document(each, best.full_cost) for each in kept)


def _document(each: Effect, full_cost: float) -> CascadeEffect:
    _, bound = score_bounds(each.newly_wrong, each.newly_right, each.num_images, LEVEL)
    return CascadeEffect(
        num_images=each.num_images,
        loss=each.loss,
        bound=bound,
        cost=each.cost,
        speedup=full_cost / each.cost,
    )
