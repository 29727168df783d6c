"""Times of the outranking table and the searches beside brute force, interleaved in one process."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Int

from ensemble.evaluation import metrics
from ensemble.outranking import one_weight
from ensemble.outranking.boxed import box_table
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.combine import Combine
from ensemble.outranking.fixed_point import GRID_STEPS, WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.outranking.weighting import Weighting
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import bootstrap
from ensemble.search.weights import anchor_units, best_first
from jobs.benchmark import search_baselines as baselines
from jobs.benchmark.process_memory import measure_build
from jobs.benchmark.report import Bar, Begin
from jobs.benchmark.search_settings import SearchBenchmarkConfig
from jobs.benchmark.synthetic_pool import SyntheticPool

GRID_WEIGHTS = GRID_STEPS + 1
BOTH: tuple[Combine, ...] = ("probabilities", "logs")
ROUNDS = 50
_BLOCK_IMAGES = 512

Value = TypeVar("Value")


@dataclass
class Times:
    """Seconds of each kind of work in each round, and figures of other kinds."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float | int | str | bool] = field(default_factory=dict)

    def measure(self, name: str, work: Callable[[], Value]) -> Value:
        """Do some work and note the seconds it took."""
        began = time.perf_counter()
        result = work()
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        return result

    def median(self, name: str) -> float:
        """Give the median of the seconds that some work took."""
        return statistics.median(self.seconds[name])


@dataclass(frozen=True)
class Pool:
    """The dense tables: log-probabilities of each member, and labels."""

    columns: list[Float32[np.ndarray, "image class"]]
    labels: Int[np.ndarray, " image"]


def make_pool(config: SearchBenchmarkConfig) -> Pool:
    """Make the dense tables of a synthetic pool, float32."""
    pool = SyntheticPool(num_members=config.members, num_classes=config.classes, seed=config.seed)
    labels = pool.labels(config.images)
    return Pool(list(pool.columns(labels)), labels)


def build(
    pool: Pool,
    threads: int,
    images: int | None = None,
    combines: Sequence[Combine] = ("probabilities",),
) -> OutrankingTable:
    """Build the outranking table of the first images, or of all."""
    builder = OutrankingBuilder([f"m{i}" for i in range(len(pool.columns))], threads, combines)
    builder.add([column[:images] for column in pool.columns], pool.labels[:images])
    return builder.finish()


def measure(config: SearchBenchmarkConfig, pool: Pool, begin: Begin) -> Times:
    """Measure everything on the synthetic pool."""
    times = Times()
    times.figures["torch"] = baselines.set_torch_threads(config.threads)
    begin("building the outranking table")
    table = build(pool, config.threads)
    times.figures["pairs_per_image"] = table.num_pairs / table.num_images
    brute = _Brute(config, pool, table)
    for number in range(1, config.repeats + 1):
        begin(f"round {number} of {config.repeats}: build and searches")
        times.measure("read", lambda: _read(pool, config.threads))
        fresh = times.measure("build", lambda: build(pool, config.threads))
        _measure_searches(config, fresh, times)
        both = times.measure("logs_build", lambda: build(pool, config.threads, None, BOTH))
        _measure_logs(config, both, times)
        times.measure("topk_subset", brute.once)
    _measure_caruana(config, pool, times, begin)
    _measure_once(config, pool, table, times, begin)
    return times


class _Brute:
    """One weight of the sweep by torch.topk, on the first images."""

    def __init__(self, config: SearchBenchmarkConfig, pool: Pool, table: OutrankingTable) -> None:
        anchor, second = best_first(table, SearchConfig(k=config.k))[:2].tolist()
        part = slice(0, config.topk_images)
        self._so_far = np.exp(pool.columns[anchor][part])
        self._member = np.exp(pool.columns[second][part])
        self._labels, self._k = pool.labels[part], config.k

    def once(self) -> int:
        return baselines.topk_errors(self._so_far, self._member, self._labels, 0.37, self._k)


def _read(pool: Pool, threads: int) -> float:
    """Read every number once, as fast as NumPy can: a sum over blocks that stay in cache."""

    def total(column: Float32[np.ndarray, "image class"]) -> float:
        blocks = range(0, len(column), _BLOCK_IMAGES)
        return sum(float(column[first : first + _BLOCK_IMAGES].sum()) for first in blocks)

    with ThreadPoolExecutor(threads) as workers:
        return sum(workers.map(total, pool.columns))


def _measure_searches(config: SearchBenchmarkConfig, table: OutrankingTable, times: Times) -> None:
    """Time one sweep, box pruning, the paper's sweeps and all searches on a fresh table.

    A search sweeps many times: the first sweep of a table, which derives what all share, is timed
    apart.
    """
    settings = SearchConfig(kind="paper", k=config.k)
    _measure_sweeps(table, settings, times, "")
    for kind in ("line", "forward", "caruana", "likelihood", "refine", "auto"):
        of_kind = settings.model_copy(update={"kind": kind})
        times.measure(f"search_{kind}", partial(fit, table, of_kind))


def _measure_logs(config: SearchBenchmarkConfig, table: OutrankingTable, times: Times) -> None:
    """Time the same on logarithms, from a table of both means, and `auto` over both."""
    settings = SearchConfig(kind="paper", k=config.k, combine="logs")
    _measure_sweeps(table.of("logs"), settings, times, "logs_")
    for kind in ("line", "forward", "caruana", "likelihood", "refine"):
        of_kind = settings.model_copy(update={"kind": kind})
        times.measure(f"logs_search_{kind}", partial(fit, table, of_kind))
    auto = SearchConfig(k=config.k)
    chosen = times.measure("search_auto_of_both", partial(fit, table, auto))
    times.figures["auto_of_both_took"] = f"{chosen.search} on {chosen.combine}"


def _measure_sweeps(
    table: OutrankingTable, settings: SearchConfig, times: Times, prefix: str
) -> None:
    k = settings.k
    anchor, second, *_ = best_first(table, settings).tolist()
    units = anchor_units(table, anchor)
    scores = table.scores(units)
    sweep = partial(one_weight.sweep, table, units, second, k, scores)
    times.measure(f"{prefix}first_sweep", sweep)
    for _ in range(3):
        times.measure(f"{prefix}sweep_full", sweep)
    boxed = times.measure(f"{prefix}box", partial(box_table, table, anchor, k))
    boxed_sweep = partial(one_weight.sweep, boxed, units, second, k, boxed.scores(units))
    boxed_sweep()
    for _ in range(3):
        times.measure(f"{prefix}sweep_boxed", boxed_sweep)
    times.measure(f"{prefix}paper_after_box", partial(fit, table, settings))
    times.measure(f"{prefix}paper_sweeps", partial(_paper_sweeps, boxed, anchor, k))


def _paper_sweeps(boxed: OutrankingTable, anchor: int, k: int) -> None:
    """Do the sweeps of the paper's search and nothing else, with the scores kept up to date."""
    units = anchor_units(boxed, anchor)
    scores = boxed.scores(units)
    for member in best_first(boxed, SearchConfig(k=k))[1:].tolist():
        step = int(one_weight.sweep(boxed, units, member, k, scores).argmin()) * (
            WEIGHT_UNITS // GRID_STEPS
        )
        units[member] = step
        scores += boxed.differences[member] * float(step)


def _measure_caruana(config: SearchBenchmarkConfig, pool: Pool, times: Times, begin: Begin) -> None:
    """Time 50 rounds by accuracy on the same rows: ours with its build, theirs on probabilities.

    AutoGluon takes its turn in every round. Ours comes behind a build that is not timed, because
    AutoGluon's arrays have driven it out of the caches. The plain algorithm, an average of dense
    tables for each candidate, takes seconds and is timed once.
    """
    images = min(config.caruana_images, config.images)
    dense = [np.exp(column[:images]) for column in pool.columns]
    labels = pool.labels[:images]
    settings = SearchConfig(kind="caruana", rounds=ROUNDS, initial=0, k=1)
    autogluon = baselines.autogluon_selection()
    _select(pool, config.threads, images, settings)
    for number in range(1, config.repeats + 1):
        begin(f"round {number} of {config.repeats}: {ROUNDS} rounds of Caruana")
        table = build(pool, config.threads, images)
        times.measure("caruana_50_search", partial(fit, table, settings))
        ours = times.measure(
            "caruana_50_with_build", lambda: _select(pool, config.threads, images, settings)
        )
        if autogluon:
            times.figures["caruana_50_errors_autogluon"] = times.measure(
                "caruana_50_autogluon", partial(autogluon, dense, labels, ROUNDS)
            )
    times.figures["caruana_50_errors"] = ours
    begin(f"{ROUNDS} rounds of Caruana as published, once")
    _, plain = times.measure(
        "caruana_50_plain", lambda: baselines.plain_selection(dense, labels, ROUNDS)
    )
    times.figures["caruana_50_errors_plain"] = plain


def _select(pool: Pool, threads: int, images: int, settings: SearchConfig) -> int:
    return fit(build(pool, threads, images), settings).errors


def _measure_once(
    config: SearchBenchmarkConfig,
    pool: Pool,
    table: OutrankingTable,
    times: Times,
    begin: Begin,
) -> None:
    """Measure what takes too long to repeat, or needs no repetition."""
    settings = SearchConfig(kind="paper", k=config.k)
    if config.replicates:
        begin(f"bootstrap of {config.replicates} samples")
        paper = fit(table, settings)
        times.measure(
            "bootstrap", lambda: bootstrap(table, paper, settings, config.replicates, config.seed)
        )
    rng = np.random.default_rng(config.seed)
    both = build(pool, config.threads, None, BOTH)
    wrong = dict.fromkeys(BOTH, 0)
    for number in range(1, config.exact_weights + 1):
        begin(f"weights {number} of {config.exact_weights} against brute force")
        units = rng.integers(0, WEIGHT_UNITS + 1, config.members)
        for combine in BOTH:
            wrong[combine] += _mismatches(pool, both, Weighting(units, combine), config.k)
    times.figures["exact_mismatches"] = wrong["probabilities"]
    times.figures["exact_mismatches_logs"] = wrong["logs"]
    del both
    if config.memory:
        begin("peak memory of a build")
        sizes = (config.images, config.classes, config.members, config.seed)
        for prefix, combines in (("", BOTH[:1]), ("logs_", BOTH)):
            memory = measure_build(*sizes, combines)
            times.figures[f"{prefix}memory_beyond_window_mb"] = memory.beyond_window / 2**20
            times.figures[f"{prefix}memory_window_mb"] = memory.window / 2**20
            times.figures[f"{prefix}table_mb"] = memory.table / 2**20


def _mismatches(pool: Pool, table: OutrankingTable, weighting: Weighting, k: int) -> int:
    """Count the images on which the table and the dense average disagree."""
    errors, expected = table.of(weighting.combine).is_error(weighting.units, k), []
    for first in range(0, len(pool.labels), _BLOCK_IMAGES):
        part = slice(first, first + _BLOCK_IMAGES)
        dense = metrics.scores([column[part] for column in pool.columns], weighting)
        expected.append(metrics.is_top_k_error(dense, pool.labels[part], k))
    return int((np.concatenate(expected) != errors).sum())


def bars(config: SearchBenchmarkConfig, times: Times) -> tuple[Bar, ...]:
    """List what is promised, with what was measured for it."""
    images = min(config.topk_images, config.images)
    topk_sweep = times.median("topk_subset") * config.images / images * GRID_WEIGHTS
    rows = [
        *_sweep_bars(times, topk_sweep, "", ""),
        *_sweep_bars(times, topk_sweep, "logs_", "logs, "),
    ]
    seconds, auto = times.median("logs_search_likelihood"), times.median("search_auto")
    rows.append(Bar("logs, likelihood, x auto of probabilities", seconds / auto, "<=", 1.0))
    # The bar is AutoGluon's; where it is not installed, that of the algorithm as published.
    baseline = "autogluon" if "caruana_50_autogluon" in times.seconds else "plain"
    theirs = times.median(f"caruana_50_{baseline}")
    rows += [
        Bar(f"Caruana 50 rounds, {what}, x {baseline}", theirs / times.median(name), ">=", 300.0)
        for what, name in (
            ("build and search", "caruana_50_with_build"),
            ("search alone", "caruana_50_search"),
        )
    ]
    if config.replicates:
        rows.append(
            Bar(
                f"bootstrap, {config.replicates} replicates, s",
                times.median("bootstrap"),
                "<=",
                10.0,
            )
        )
    for suffix, prefix, name in (("", "", ""), ("_logs", "logs_", "logs, ")):
        if config.memory:
            beyond = float(times.figures[f"{prefix}memory_beyond_window_mb"])
            rows.append(Bar(f"{name}peak memory beyond a window, MB", beyond, "<=", 300.0))
        mismatches = float(times.figures[f"exact_mismatches{suffix}"])
        what = f"{name}images that differ from brute force at {config.exact_weights} weights"
        rows.append(Bar(what, mismatches, "<=", 0.0))
    return tuple(rows)


def _sweep_bars(times: Times, topk_sweep: float, prefix: str, name: str) -> list[Bar]:
    def median(what: str) -> float:
        return times.median(f"{prefix}{what}")

    whole = median("build") + median("box") + median("paper_after_box")
    return [
        Bar(f"{name}one sweep, x torch.topk", topk_sweep / median("sweep_full"), ">=", 1000.0),
        Bar(
            f"{name}one boxed sweep, x torch.topk",
            topk_sweep / median("sweep_boxed"),
            ">=",
            5000.0,
        ),
        Bar(
            f"{name}tables to paper's weights, x one read", whole / times.median("read"), "<=", 9.0
        ),
        Bar(f"{name}the paper's sweeps on the box, ms", 1e3 * median("paper_sweeps"), "<=", 40.0),
    ]


def summarise(times: Times) -> dict[str, dict[str, float]]:
    """Give median, least and number of rounds of everything that was timed, seconds."""
    return {
        name: {"median": times.median(name), "min": min(seconds), "rounds": len(seconds)}
        for name, seconds in times.seconds.items()
    }
