"""Last part: the running system on Ray, where Ray is installed, by the benchmark `predict`."""

import importlib.util

from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Run `ensemble benchmark predict` on the device, with its own bars."""
    if importlib.util.find_spec("ray") is None:
        record.leave_out("Ray is not installed; everything else is measured without it.")
        return
    if not record.has_time("a member in the running system, and what is decoded for 13", 30):
        return
    # Imported here, because it imports Ray.
    from jobs.benchmark.predict import PredictBenchmarkConfig
    from jobs.benchmark.predict import measure as measure_predict

    report = measure_predict(
        PredictBenchmarkConfig(
            architecture=config.networks[0],
            input_size=config.input_size,
            width=config.width,
            height=config.height,
            shards=max(config.shards, 2),
            repeats=config.repeats,
            device=config.device,
        ),
        record.say,
    )
    for bar in report.bars:
        record.judge(bar, "times")
    record.figure("predict", dict(report.figures))
