"""What `validate` finds, and `run` would: before anything is computed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import models

from ensemble.errors import ConfigError, ProjectError
from jobs.checks import check_bases, validate
from jobs.cli.app import DEFAULT_CONFIG
from jobs.settings import load_run_config

PRE = "preprocessing: {size: 64, resize: 64, mean: [0, 0, 0], std: [1, 1, 1], interpolation: bilinear}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    folder = tmp_path_factory.mktemp("weights")

    def save(num_classes: int) -> Path:
        path = folder / f"{num_classes}.pth"
        torch.save(models.resnet18(num_classes=num_classes).state_dict(), path)
        return path

    return save


def _config(*words: str, runs: Path | None = None) -> tuple[str, ...]:
    return validate(load_run_config(DEFAULT_CONFIG, [*words, f"runs={runs or 'runs'}"]))


def _member(path: Path | str, more: str = PRE) -> str:
    source = f"{{kind: checkpoint, path: {path}, architecture: torchvision/resnet18}}"
    return f"members.0={{name: alexnet, source: {source}, {more}}}"


def test_a_config_that_runs_is_valid_and_nothing_is_written(
    tmp_path: Path, weights: Callable[[int], Path]
) -> None:
    assert _config(runs=tmp_path) == ()
    assert _config(_member(weights(10)), runs=tmp_path) == ()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (
            ["images.source={kind: folder, path: /no/such}"],
            r"cannot read the image folder '/no/such'",
        ),
        (["images.source={kind: cifar10, path: /no/such}"], r"cannot read '/no/such"),
        (["images.source={kind: parquet, path: /no/such.parquet}"], r"/no/such\.parquet"),
        (["images.split.train=5000"], r"asks for 5000 train"),
        (["search.k=10"], r"search\.k is 10, and there are 10 classes"),
        (["report.top_k=10"], r"report\.top_k is 10"),
        (
            [
                "recipes.default.copies={}",
                "members.0.source={kind: recipe, start: 'checkpoint:/no/such.pth'}",
            ],
            "recipes.default.copies adds copies of images in memory",
        ),
        (
            ["members.0.source={kind: recipe, start: 'checkpoint:/no/such.pth'}"],
            r"the member 'alexnet' cannot start from these weights: /no/such\.pth",
        ),
        (
            [
                "members.0.source={kind: recipe, architecture: vgg11_small, start: torchvision:vgg11}"
            ],
            r"is vgg11_small, and its start is torchvision/vgg11\. Leave architecture out",
        ),
        (["subclassifiers.num_clusters=[10]"], r"num_clusters has 10"),
        ([_member("/no/such.pth")], r"the member 'alexnet' cannot be loaded: /no/such\.pth"),
        ([_member("/no/such.pth", "precision: float32")], r"preprocessing of 'alexnet' lacks size"),
        (
            ["members.0={name: alexnet, source: 'onnx:/no/such.onnx', " + PRE + "}"],
            r"no/such\.onnx",
        ),
        (["members.0={name: alexnet, source: 'timm:no_such_net'}"], r"no_such_net"),
        (["members.0={name: alexnet, source: 'factory:no.such:f', " + PRE + "}"], r"trust_code"),
    ],
)
def test_what_a_run_would_refuse_is_refused(words: list[str], match: str) -> None:
    with pytest.raises(ProjectError, match=match):
        _config(*words)


def test_weights_of_other_classes_are_refused(weights: Callable[[int], Path]) -> None:
    with pytest.raises(ConfigError, match=r"'alexnet' has 7 outputs, and the images have 10"):
        _config(_member(weights(7)))


def test_weights_of_another_network_and_what_is_no_weights_are_refused(
    weights: Callable[[int], Path], tmp_path: Path
) -> None:
    other = _member(weights(10)).replace("resnet18", "resnet50")
    with pytest.raises(ConfigError, match=r"the member 'alexnet' cannot be loaded"):
        _config(other)
    (tmp_path / "page.pth").write_text("<html></html>")
    with pytest.raises(ConfigError, match=r"the member 'alexnet' cannot be loaded: .*page\.pth"):
        _config(_member(tmp_path / "page.pth"))


def test_every_member_at_fault_is_named_at_once() -> None:
    second = (
        _member("/no/b.pth").replace("members.0", "members.1").replace("name: alexnet", "name: b")
    )
    with pytest.raises(ConfigError, match=r"(?s)'alexnet' cannot be loaded.*'b' cannot be loaded"):
        _config(_member("/no/a.pth"), second)


def test_what_cannot_be_looked_at_is_said() -> None:
    notes = _config(_member("s3://bucket/w.pth"))
    assert notes == ("the weights of 'alexnet' are not here: the run fetches them",)
    notes = _config("images.source={kind: cifar10, path: /no/such, download: true}")
    assert notes == ("the images are not here: the run fetches them, and checks the rest then",)


def test_a_base_that_cannot_be_fine_tuned_is_refused() -> None:
    config = load_run_config(DEFAULT_CONFIG, ["subclassifiers.base=alexnet"])
    with pytest.raises(
        ConfigError, match=r"subclassifiers\.base is 'alexnet', which has no last linear"
    ):
        check_bases(config, {"alexnet": ""})
    check_bases(config, {"alexnet": "fc"})
    check_bases(config, {"alexnet": None})
    config = load_run_config(DEFAULT_CONFIG)
    check_bases(config, {member.name: "" for member in config.members[1:]})
    if config.subclassifiers:
        with pytest.raises(ConfigError, match="no member can be fine-tuned"):
            check_bases(config, {member.name: "" for member in config.members})
