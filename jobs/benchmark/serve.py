"""`ensemble benchmark serve`: requests over HTTP against the bare predictor, with and without batching."""

import base64
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from pydantic import PositiveInt
from rich.console import Console
from rich.table import Table

from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble import predictor
from ensemble.serving.settings import ServingConfig
from ensemble.storage.settings import S3Config
from jobs.artifacts import find_artifact
from jobs.benchmark import litserve_baseline
from jobs.benchmark.http_load import Load, measure_load
from jobs.benchmark.process_cpu import torch_threads
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.serve_material import make_artifact, write_photograph


class ServeBenchmarkConfig(BenchmarkConfig):
    """What is served, and how much is asked."""

    full_size: ClassVar = {"repeats": 5, "requests": 400}

    artifact: str | None = None
    """The artifact, or the run that has it; three untrained networks at 64 pixels if not set."""
    requests: PositiveInt = 60
    """Requests one after the other in each round, and four times as many side by side."""
    concurrency: PositiveInt = 32
    """Requests side by side."""
    max_batch: PositiveInt = 32
    """Requests that are predicted together."""
    port: PositiveInt = 18732
    """Port of loopback that the server listens at."""
    repeats: PositiveInt = 2
    """Rounds; medians are reported."""
    out: Path = Path("serve-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_serve(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time the server, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        ClusterError: The server does not start, or does not answer.
    """
    config = read_config(ServeBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_table(report.figures))
    return finish(report, config.out, console)


def measure(config: ServeBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time the bare predictor and the server in turn, with and without batches.

    Raises:
        ClusterError: The server does not start, or does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        if config.artifact is None:
            begin("making an artifact of untrained networks")
            place = str(make_artifact(Path(folder)))
        else:
            place, _ = find_artifact(config.artifact)
        image = Path(folder) / "photograph.jpg"
        write_photograph(image)
        with torch_threads(1):  # as a replica with one CPU has
            begin("the bare predictor")
            bare = _measure_bare(place, image.read_bytes(), config)
        loads = {
            name: _measure_server(place, image, config, batch, name, begin)
            for name, batch in (("batched", config.max_batch), ("one by one", 1))
        }
        if litserve_baseline.is_installed():
            loads["LitServe"] = _measure_litserve(place, image, config, begin)
    return _report(config, bare, loads)


def _report(
    config: ServeBenchmarkConfig, bare: Mapping[str, float], loads: Mapping[str, list[list[Load]]]
) -> BenchmarkReport:
    figures: dict[str, Any] = {"bare": dict(bare)}
    for name, (alone, together) in loads.items():
        figures[name] = {
            "alone_p50_s": median(load.percentile(50) for load in alone),
            "alone_p99_s": median(load.percentile(99) for load in alone),
            "together_p50_s": median(load.percentile(50) for load in together),
            "together_p99_s": median(load.percentile(99) for load in together),
            "together_per_s": median(load.rate for load in together),
        }
    # Both bars judge the server as it is by default, whose request alone also waits for others to join its batch.
    overhead = 1e3 * (figures["batched"]["alone_p50_s"] - bare["one_s"])
    share = figures["batched"]["together_per_s"] / bare["batch_per_s"]
    bars = (
        Bar("a request alone, ms over the bare predictor", overhead, "<=", 10.0),
        Bar("saturated, images/s, x the bare batch loop", share, ">=", 0.8),
    )
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures)


def _measure_bare(place: str, image: bytes, config: ServeBenchmarkConfig) -> dict[str, float]:
    loaded = predictor.load(place)

    def seconds(images: Sequence[bytes], rounds: int) -> float:
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            loaded.predict(images)
            times.append(time.perf_counter() - began)
        return median(times)

    batch = [image] * config.max_batch
    seconds(batch, 2)
    return {
        "one_s": seconds([image], config.requests),
        "batch_per_s": config.max_batch / seconds(batch, 3 * config.repeats),
    }


def _measure_server(
    place: str,
    image: Path,
    config: ServeBenchmarkConfig,
    max_batch: int,
    name: str,
    begin: Begin,
) -> list[list[Load]]:
    # Here, because Ray Serve is an extra.
    from cluster import lost_ingress, serving

    settings = ServingConfig(port=config.port, max_batch=max_batch)
    artifact = serving.describe(place, "benchmark", S3Config())
    begin(f"{name}: starting the server")
    with (
        lost_ingress.serving_environment(),
        session(ClusterConfig(hosts=1)),
        serving.serving(artifact, settings, None) as url,
    ):
        return _measure_rounds(f"{url}/v1/predict?top_k=1", image, config, name, begin)


def _measure_litserve(
    place: str, image: Path, config: ServeBenchmarkConfig, begin: Begin
) -> list[list[Load]]:
    begin("LitServe: starting the server")
    # It takes JSON where it is told of no form.
    body = image.with_suffix(".json")
    body.write_text(json.dumps({"image": base64.b64encode(image.read_bytes()).decode()}))
    with litserve_baseline.litserve(place, config.port, config.max_batch) as url:
        return _measure_rounds(url, body, config, "LitServe", begin)


def _measure_rounds(
    url: str, body: Path, config: ServeBenchmarkConfig, name: str, begin: Begin
) -> list[list[Load]]:
    measure_load(url, body, config.concurrency, config.concurrency)
    alone, together = [], []
    for number in range(1, config.repeats + 1):
        begin(f"{name}: round {number} of {config.repeats}")
        alone.append(measure_load(url, body, config.requests, 1))
        together.append(measure_load(url, body, 4 * config.requests, config.concurrency))
    return [alone, together]


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(title="Requests", title_justify="left")
    columns = ("what", "alone: p50, ms", "p99, ms", "side by side: p50, ms", "p99, ms", "per s")
    for column in columns:
        table.add_column(column, justify="left" if column == "what" else "right")
    bare = figures["bare"]
    table.add_row(
        "bare predictor", f"{1e3 * bare['one_s']:.1f}", "", "", "", f"{bare['batch_per_s']:.1f}"
    )
    for name in [name for name in figures if name != "bare"]:
        row = figures[name]
        times = (f"{1e3 * row[key]:.1f}" for key in list(row)[:4])
        table.add_row(name, *times, f"{row['together_per_s']:.1f}")
    return table
