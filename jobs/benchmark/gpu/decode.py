"""Part 3: JPEG photographs from memory, decoded on the CPU's cores beside 13 members on the GPU; and nvJPEG."""

import importlib.util
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from ensemble.images.decode import decode
from ensemble.images.shard import ImageShard
from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import BATCH_IMAGES, predict
from ensemble.inference.resized import ResizedShard
from jobs.benchmark.gpu.decoded_shards import MAX_PIXELS, decode_ahead
from jobs.benchmark.gpu.flow import start_context
from jobs.benchmark.gpu.material import (
    input_side,
    make_jpegs,
    make_member,
    make_network,
    pack,
    seconds_of,
    timed_in_turn,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar

MEMBERS = 13
DECODE_BAR = 1.1

_SAMPLE_S = 0.1


@dataclass(frozen=True)
class _Round:
    """One pass over all shards.

    Attributes:
        seconds: Wall time from the first request for pixels to the last row.
        decode_cpu_s: CPU seconds of all decoding.
        images: Number of photographs.
    """

    seconds: float
    decode_cpu_s: float
    images: int


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Time decoding beside one member and beside 13, and decoders alone."""
    device = torch.device(config.device)
    jpegs = make_jpegs(BATCH_IMAGES, config.width, config.height)
    _time_decoders(jpegs, device, config.repeats, record)
    decoders = config.decoders or max(1, (os.cpu_count() or 2) - 1)
    context = start_context(config.device)
    with (
        tempfile.TemporaryDirectory(prefix="ens-gpu-") as folder,
        ProcessPoolExecutor(decoders, context) as executor,
    ):
        _time_beside(config, jpegs, Path(folder), (executor, decoders), record)


def _time_decoders(
    jpegs: list[bytes], device: torch.device, repeats: int, record: Recorder
) -> None:
    """Time one core with Pillow and with torchvision, and nvJPEG on the GPU."""
    encoded = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
    ways: dict[str, Callable[[], object]] = {
        "Pillow, one core": lambda: [decode(BytesIO(jpeg), MAX_PIXELS) for jpeg in jpegs],
        "torchvision, one core": lambda: [
            decode_jpeg(data, mode=ImageReadMode.RGB) for data in encoded
        ],
    }
    if device.type == "cuda":
        gpu = torch.device("cuda", torch.cuda.current_device())  # nvJPEG wants its number
        try:
            decode_jpeg(encoded[:1], mode=ImageReadMode.RGB, device=gpu)
        except RuntimeError as error:
            record.leave_out(f"nvJPEG: torchvision cannot use it ({' '.join(str(error).split())}).")
        else:
            ways["nvJPEG"] = lambda: [*decode_jpeg(encoded, mode=ImageReadMode.RGB, device=gpu)]
    else:
        record.leave_out("nvJPEG: there is no GPU.")
    if record.has_time("decoders alone", 6):
        seconds = timed_in_turn(ways, device, repeats)
        rates = {way: len(jpegs) / took for way, took in seconds.items()}
        record.figure("decoders, images/s", rates)
        record.say("; ".join(f"{way} {rate:,.0f} images/s" for way, rate in rates.items()))


def _time_beside(
    config: GpuBenchmarkConfig,
    jpegs: list[bytes],
    folder: Path,
    decoders: tuple[ProcessPoolExecutor, int],
    record: Recorder,
) -> None:
    device, architecture = torch.device(config.device), config.networks[0]
    size = input_side(architecture, config.input_size)
    network = PreparedNetwork(
        make_network(architecture, size, device), "bfloat16", channels_last=True
    ).eval()
    member = make_member(architecture, size, precision="bfloat16")
    executor, processes = decoders

    def run(members: int, shards: Iterator[tuple[ImageShard, float]]) -> _Round:
        started, cpu_s, images = time.perf_counter(), 0.0, 0
        for shard, decode_s in shards:
            resized = ResizedShard(shard, device)
            for _ in range(members):
                predict(network, member, shard, device, resized)
            cpu_s, images = cpu_s + decode_s, images + len(shard)
        return _Round(time.perf_counter() - started, cpu_s, images)

    def decoded() -> Iterator[tuple[ImageShard, float]]:
        for done in decode_ahead(executor, processes + 2, jpegs, folder, config.shards):
            yield done.shard(), done.cpu_s
            done.path.unlink()

    ready = pack([decode(BytesIO(jpeg), MAX_PIXELS) for jpeg in jpegs])
    seconds_of(lambda: run(1, iter([(ready, 0.0)])), device)
    for _ in decoded():  # starts the processes, and counts as warming up
        pass
    if not record.has_time(f"one member and {MEMBERS} members, decoding beside them", 25):
        return
    rounds: dict[str, list[_Round]] = {"one": [], "all": [], "from decoded": []}
    utilisation: list[float] = []
    for _ in range(config.repeats):
        rounds["one"].append(run(1, decoded()))
        with _sampled(device, utilisation):
            rounds["all"].append(run(MEMBERS, decoded()))
        again = iter([(ready, 0.0)] * config.shards)
        rounds["from decoded"].append(run(MEMBERS, again))
    _report(rounds, utilisation, (architecture, processes), record)


def _report(
    rounds: dict[str, list[_Round]],
    utilisation: list[float],
    setting: tuple[str, int],
    record: Recorder,
) -> None:
    def median(way: str, value: str) -> float:
        return statistics.median(getattr(each, value) / each.images for each in rounds[way])

    architecture, processes = setting
    beside_s, without_s = median("all", "seconds"), median("from decoded", "seconds")
    record.figure(
        f"{MEMBERS} members of {architecture}, {processes} processes that decode",
        {
            "decode_cpu_ms_per_image_for_one": 1e3 * median("one", "decode_cpu_s"),
            "decode_cpu_ms_per_image_for_all": 1e3 * median("all", "decode_cpu_s"),
            "images_per_s_for_one": 1 / median("one", "seconds"),
            "images_per_s_for_all": 1 / beside_s,
            "images_per_s_for_all_from_decoded": 1 / without_s,
        },
    )
    if utilisation:
        record.figure("GPU utilisation, %", statistics.fmean(utilisation))
    else:
        record.leave_out("GPU utilisation: it needs a GPU and the package nvidia-ml-py.")
    ratio = median("all", "decode_cpu_s") / median("one", "decode_cpu_s")
    name = f"CPU seconds of decoding for {MEMBERS} members, x those for one"
    record.judge(Bar(name, ratio, "<=", DECODE_BAR), "times")
    record.say(
        f"{1 / beside_s:,.0f} images/s for {MEMBERS} members with decoding beside them, "
        f"{1 / without_s:,.0f} from decoded images"
    )


@contextmanager
def _sampled(device: torch.device, utilisation: list[float]) -> Iterator[None]:
    """Sample the utilisation of the GPU in the background, where its driver's library can be asked."""
    if device.type != "cuda" or importlib.util.find_spec("pynvml") is None:
        yield
        return
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(_SAMPLE_S):
            utilisation.append(float(torch.cuda.utilization(device)))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        is_over.set()
        sampler.join()
