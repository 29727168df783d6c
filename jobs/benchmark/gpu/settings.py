"""Settings of `ensemble benchmark gpu`: the full size, which fits nine minutes of one GPU, and the smoke run's."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ensemble.members.source_settings import Architecture
from ensemble.models.registry import SMALL
from jobs.benchmark.report import BenchmarkConfig

PartName = Literal[
    "correctness",
    "one_member",
    "decode",
    "placement",
    "out_of_memory",
    "training",
    "profile",
    "ray_pool",
]

# Seconds of each part at full size, the most important part first. What a part leaves goes to the next.
SECONDS_OF_PART: dict[PartName, float] = {
    "correctness": 115,
    "one_member": 95,
    "decode": 50,
    "placement": 95,
    "out_of_memory": 20,
    "training": 65,
    "profile": 40,
    "ray_pool": 45,
}


class GpuBenchmarkConfig(BenchmarkConfig):
    """Which parts are measured, with which networks, and at which size."""

    smoke_size: ClassVar = {
        "device": "cpu",
        "limit_s": 1200,
        "families": sorted(SMALL),
        "images": 3,
        "flip_images": 64,
        "flip_epochs": 2,
        "compiled": False,
        "networks": ["resnet14_small"],
        "pool": ["resnet14_small", "vgg11_small", "mobilenet_v2_small"],
        "input_size": 32,
        "width": 48,
        "height": 40,
        "shards": 2,
        "decoders": 1,
        "repeats": 1,
        "trainings": ["resnet20_bottleneck_small"],
        "steps": 2,
        "batch_size": 8,
    }
    """Settings that `--smoke` puts in the place of the defaults; words of the command go before both."""

    device: Literal["cuda", "cpu"] = "cuda"
    """Device to measure. On a CPU, times are measured and not judged: only answers are."""
    parts: Annotated[tuple[PartName, ...], Field(min_length=1)] = tuple(SECONDS_OF_PART)
    """Parts to measure, in this order."""
    limit_s: PositiveFloat = sum(SECONDS_OF_PART.values())
    """Seconds for all parts of the benchmark together; each part has its share of them."""
    families: tuple[Architecture, ...] = (
        *sorted(SMALL),
        "torchvision/resnet50",
        "torchvision/vgg16",
        "torchvision/inception_v3",
        "timm/inception_resnet_v2",
    )
    """Architectures that are compared with the CPU, the one of each family at least."""
    images: PositiveInt = 16
    """Images that each architecture is compared on."""
    flip_images: PositiveInt = 1000
    """Images that lower precisions are compared on, of the 1,797 digits of scikit-learn; a network is trained on the
    others."""
    flip_epochs: PositiveInt = 12
    """Epochs of that training."""
    compiled: bool = True
    """Measure compiled networks as well."""
    networks: Annotated[tuple[Architecture, ...], Field(min_length=1)] = (
        "torchvision/resnet50",
        "torchvision/resnet152",
        "torchvision/vgg16",
    )
    """Members that are timed alone; the first one is also compared in each layout, decoded for, and profiled."""
    pool: tuple[Architecture, ...] = ()
    """Members that share the GPU; those of the pool imagenet13 if empty."""
    input_size: PositiveInt = 224
    """Side of the networks' input, in pixels."""
    width: PositiveInt = 500
    """Width of a photograph, in pixels."""
    height: PositiveInt = 375
    """Height of a photograph, in pixels."""
    shards: PositiveInt = 8
    """Shards of 64 photographs in a round."""
    decoders: PositiveInt | None = None
    """Processes that decode; one for each core but one if not set."""
    repeats: PositiveInt = 3
    """Rounds after one to warm up; both sides of a ratio are timed in turn in each round, and medians are reported."""
    trainings: tuple[Architecture, ...] = (
        "torchvision/resnet18",
        "wide_resnet28_10",
        "pyramidnet196_a48",
    )
    """Networks that are trained; where `compiled` is set, compiled too."""
    training_size: PositiveInt = 32
    """Side of the input of trained networks that have none of their own, in pixels."""
    steps: Annotated[int, Field(ge=2)] = 16
    """Training steps in an epoch."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images in a training step."""
    out: Path = Path("gpu.json")
    """JSON file that the bars and figures are written to, after each step."""
