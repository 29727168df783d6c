"""Part 1: the same answers on a GPU as on the CPU, for every family, view policy, layout and precision."""

import copy
import importlib.util
import math
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ensemble.images.shard import ImageShard
from ensemble.inference.device import device_kind
from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import predict
from ensemble.members.member import Member
from ensemble.members.settings import Precision
from ensemble.models import registry as models
from ensemble.training.loop import train
from ensemble.training.recipe import RecipeConfig
from ensemble.views.settings import (
    CenterView,
    Crop,
    Crops144,
    DenseAndMultiCrop,
    DenseViews,
    FlipViews,
    ListedViews,
    MultiCrop,
    MultiScale,
    ShiftsAndScales,
    Square,
    TenCrop,
    Views,
    Whole,
)
from jobs.benchmark.gpu.agreement import TOLERANCE, Agreement, compare
from jobs.benchmark.gpu.material import (
    input_side,
    make_member,
    make_network,
    make_pixels,
    pack,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar

# Small grids, so that a policy's own arithmetic is all that takes time.
POLICIES: tuple[Views, ...] = (
    CenterView(),
    FlipViews(),
    ShiftsAndScales(shift=2, scales=(0.9, 1.1)),
    TenCrop(),
    Crops144(short_sides=(40,)),
    DenseViews(short_sides=(32, 40), flip=True),
    MultiScale(),
    MultiCrop(short_sides=(40,), grid=2),
    DenseAndMultiCrop(short_sides=(40,), grid=2),
    Square(right=2, down=1, scale=1.1, flip=True),
    Crop(short_side=40, down=0.0, right=1.0),
    Whole(short_side=48),
    ListedViews(views=(CenterView(), Whole(short_side=40)), average="geometric"),
)
_POLICY_NETWORK = "resnet20_bottleneck_small"

# Images of three sizes, as photographs have: wide, tall and square.
_SHAPES = ((1.0, 1.0), (0.75, 1.3), (1.0, 0.8))

# Of 1,000 images. A CPU changed none in either precision (one run, 9 errors in float32); the 8 bits of a
# bfloat16 can move near-ties only, and the 11 bits of a float16 fewer.
_FLIPS_PER_1000: dict[Precision, float] = {"bfloat16": 5, "float16": 2}

_CPU = torch.device("cpu")
_TESTS = Path(__file__).parents[3] / "tests"


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Compare answers, the main path first."""
    device = torch.device(config.device)
    _describe(device, record)
    _compare_families(config, device, record)
    _compare_policies(config, device, record)
    _count_flips(config, device, record)
    _compare_layouts(config, device, record)
    _run_gpu_tests(device, record)


def _describe(device: torch.device, record: Recorder) -> None:
    """Record which card, driver and libraries are measured."""
    record.machine("device", device_kind(device))
    record.machine("torchvision", importlib.import_module("torchvision").__version__)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        record.machine("gpu_memory_mb", properties.total_memory >> 20)
        record.machine("compute_capability", f"{properties.major}.{properties.minor}")
        record.machine("cuda", torch.version.cuda)
        record.machine("cudnn", torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        record.machine("driver", _driver())


def _driver() -> str | None:
    """Read the version of NVIDIA's driver, where its file says it."""
    file = Path("/proc/driver/nvidia/version")
    if not file.exists():
        return None
    match = re.search(r"\d+\.\d+(\.\d+)?", file.read_text())
    return match.group() if match else None


def _shard(config: GpuBenchmarkConfig, size: int) -> ImageShard:
    """Make images of several sizes, all of them larger than the input."""
    images: list[np.ndarray] = []
    for number in range(config.images):
        wide, tall = _SHAPES[number % len(_SHAPES)]
        images += make_pixels(1, round(1.7 * size * wide), round(1.7 * size * tall), seed=number)
    return pack(images)


def _compare_families(config: GpuBenchmarkConfig, device: torch.device, record: Recorder) -> None:
    agreements = {}
    for architecture in config.families:
        if not record.has_time(f"{architecture} on the CPU and on the device", 12):
            continue
        size = input_side(architecture, config.input_size)
        member, shard = make_member(architecture, size), _shard(config, size)
        network = make_network(architecture, size, _CPU)
        expected = predict(PreparedNetwork(network), member, shard, _CPU).log_probabilities
        prepared = PreparedNetwork(network.to(device))
        rows = predict(prepared, member, shard, device).log_probabilities
        agreements[architecture] = compare(expected, rows)
    _judge("float32 of every family, device against CPU", agreements, record)


def _compare_policies(config: GpuBenchmarkConfig, device: torch.device, record: Recorder) -> None:
    size = input_side(_POLICY_NETWORK, config.input_size)
    network, shard = make_network(_POLICY_NETWORK, size, _CPU), _shard(config, size)
    moved = PreparedNetwork(copy.deepcopy(network).to(device))
    on_cpu, agreements = PreparedNetwork(network), dict[str, Agreement]()
    for views in POLICIES:
        if not record.has_time(f"views {views.kind} on the CPU and on the device", 5):
            continue
        member = make_member(_POLICY_NETWORK, size, views)
        expected = predict(on_cpu, member, shard, _CPU).log_probabilities
        rows = predict(moved, member, shard, device).log_probabilities
        agreements[views.kind] = compare(expected, rows)
    _judge("float32 under every view policy, device against CPU", agreements, record)


def _compare_layouts(config: GpuBenchmarkConfig, device: torch.device, record: Recorder) -> None:
    """Compare channels-last and compiled networks with plain ones, all on the device in float32."""
    architecture = config.networks[0]
    size = input_side(architecture, config.input_size)
    network, shard = make_network(architecture, size, device), _shard(config, size)
    layouts: dict[str, dict[str, Any]] = {"channels last": {"channels_last": True}}
    if config.compiled:
        layouts["compiled"] = {"compiled": True}
        layouts["channels last, compiled"] = {"channels_last": True, "compiled": True}
    else:
        record.leave_out("compiled networks: compiled=false.")
    plain = PreparedNetwork(copy.deepcopy(network))
    wholes = {"": make_member(architecture, size)}
    wholes[" under dense views"] = make_member(
        architecture, size, DenseViews(short_sides=(size, round(1.25 * size)))
    )
    agreements = {}
    for layout, settings in layouts.items():
        prepared = PreparedNetwork(copy.deepcopy(network), **settings)
        for where, member in wholes.items():
            if where and "compiled" in layout:
                continue  # each size of a whole image would be compiled anew
            if not record.has_time(
                f"{architecture}, {layout}{where}", 40 if "comp" in layout else 5
            ):
                continue
            same = predict(plain, member, shard, device).log_probabilities
            rows = predict(prepared, member, shard, device).log_probabilities
            agreements[layout + where] = compare(same, rows)
    _judge(f"float32 of {architecture} in every layout, against the plain one", agreements, record)


def _judge(what: str, agreements: dict[str, Agreement], record: Recorder) -> None:
    record.figure(what, {name: asdict(agreement) for name, agreement in agreements.items()})
    if not agreements:
        return
    values = agreements.values()
    # The maximum of Python passes over a value that is no number.
    largest = float(np.max([agreement.largest for agreement in values]))
    record.judge(Bar(f"{what}: largest difference, nats", largest, "<=", TOLERANCE), "answers")
    answers = sum(agreement.answers for agreement in values)
    record.judge(Bar(f"{what}: answers that differ, no near-ties", answers, "<=", 0), "answers")


def _count_flips(config: GpuBenchmarkConfig, device: torch.device, record: Recorder) -> None:
    """Count the answers that lower precisions change, of a network that was trained on digits."""
    if not record.has_time("training on digits, to count the answers that precisions change", 25):
        return
    network, shard, labels = _trained_on_digits(config, device)
    member = make_member("resnet14_small", 16)
    rows = {
        precision: predict(
            PreparedNetwork(copy.deepcopy(network), precision, channels_last=True),
            _of_digits(member),
            shard,
            device,
        ).log_probabilities
        for precision in ("float32", *_FLIPS_PER_1000)
    }
    expected = rows["float32"]
    record.figure("errors of float32", int((expected.argmax(axis=1) != labels).sum()))
    for precision, bar in _FLIPS_PER_1000.items():
        agreement = compare(expected, rows[precision])
        flips = agreement.answers + agreement.near_ties
        record.figure(precision, asdict(agreement))
        name = f"{precision}: answers that differ from float32, of {len(labels)} images"
        record.judge(Bar(name, flips, "<=", math.ceil(bar * len(labels) / 1000)), "answers")


def _of_digits(member: Member) -> Member:
    return replace(
        member,
        classes=tuple(range(10)),
        preprocessing=member.preprocessing.model_copy(
            update={"resize": None, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        ),
    )


def _trained_on_digits(
    config: GpuBenchmarkConfig, device: torch.device
) -> tuple[nn.Module, ImageShard, np.ndarray]:
    """Train on scikit-learn's digits; return the network, and the images it was not trained on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.repeat((digits.images * (255 / 16)).astype(np.uint8)[..., None], 3, axis=3)
    order = np.random.default_rng(0).permutation(len(pixels))
    held_out, rest = order[: config.flip_images], order[config.flip_images :]
    images = torch.from_numpy(pixels[rest]).permute(0, 3, 1, 2).float().div_(255)
    resized = functional.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    network = models.build("resnet14_small", 10).to(device)
    train(
        network,
        resized.clamp_(0, 1),
        torch.from_numpy(digits.target[rest]).to(torch.int64),
        RecipeConfig(epochs=config.flip_epochs),
        (0.5, 0.5, 0.5),
        (0.25, 0.25, 0.25),
        seed=0,
    )
    return network, pack(list(pixels[held_out])), digits.target[held_out]


def _run_gpu_tests(device: torch.device, record: Recorder) -> None:
    """Run the tests that are marked `gpu`, where the tests and what they need are there."""
    if device.type != "cuda":
        record.leave_out("tests marked gpu: there is no GPU.")
        return
    missing = _missing(("pytest", "xdist", "hypothesis", "beartype"))
    files = [path for path in _TESTS.rglob("test_*.py") if "mark.gpu" in path.read_text()]
    if missing or not files:
        lacking = ", ".join(missing) or "the folder tests"
        record.leave_out(f"tests marked gpu: they need {lacking}, which is not there.")
        return
    if not record.has_time("tests marked gpu", 20):
        return
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-m", "gpu", *map(str, sorted(files))]
    try:
        result = subprocess.run(
            command, cwd=_TESTS.parent, capture_output=True, text=True, timeout=record.seconds_left
        )
    except subprocess.TimeoutExpired:
        record.leave_out("tests marked gpu: they did not end in the time that was left.")
        return
    record.figure("tests marked gpu", result.stdout.splitlines()[-1:])
    name = "tests marked gpu: exit code of pytest"
    record.judge(Bar(name, result.returncode, "<=", 0), "answers")


def _missing(modules: Iterable[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]
