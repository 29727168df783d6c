"""Files that strangers wrote."""

import argparse
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from ensemble.checkpoints.state_dict import put, read_state
from ensemble.errors import CheckpointError

RAN: list[str] = []


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return RAN.append, ("ran",)


def state(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((2, 2), value), "a.bias": torch.zeros(2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def prefixed(prefix: str, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in found.items()}


WRAPPED = {
    "as it is": state(),
    "under state_dict": {"state_dict": state(), "epoch": 3, "args": {"lr": 0.1}},
    "under model": {"model": state(), "optimizer": {"param_groups": []}},
    "of DataParallel": prefixed("module.", state()),
    "of DataParallel under state_dict": {"state_dict": prefixed("module.", state())},
    "of torch.compile in DataParallel": prefixed("module._orig_mod.", state()),
    "averaged beside raw": {"state_dict": state(2), "state_dict_ema": state()},
    "averaged as torchvision writes it": {
        "model": state(2),
        "model_ema": {"n_averaged": torch.tensor(9), **prefixed("module.", state())},
    },
    "twice wrapped": {"model": {"state_dict": state()}},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED.keys())
def test_weights_are_found_whatever_they_are_wrapped_in(path: Path, content: object) -> None:
    torch.save(content, path)
    found = read_state(path)
    assert found.keys() == state().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())


def test_safetensors_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(prefixed("module.", state()), path)
    assert read_state(path).keys() == state().keys()


@pytest.mark.parametrize("extra", [Evil(), argparse.Namespace(lr=1)])
def test_file_that_would_run_code_is_refused_with_the_reason_and_the_way_out(
    path: Path, extra: object
) -> None:
    torch.save({"state_dict": state(), "extra": extra}, path)
    with pytest.raises(CheckpointError, match=r"without running code") as caught:
        read_state(path)
    assert caught.match(
        r"it asks for .*(append|Namespace|list|getattr).*It was not run.*safetensors"
    )
    assert RAN == []


def test_whole_pickled_network_is_refused(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"it asks for .*Linear.*save_file"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds list, and no tensors by name"),
        ({}, "holds dict, and no tensors"),
        ({"epoch": 3}, "holds more than tensors by name: epoch"),
        ({"state_dict": {"a": torch.zeros(1), "lr": 0.1}}, "more than tensors by name: lr"),
    ],
)
def test_file_without_weights_is_refused(path: Path, content: object, match: str) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=match):
        read_state(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x00" * 64, b"\x80\x02"])
def test_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        read_state(tmp_path / name)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.pth: cannot be read as weights"):
        read_state(tmp_path / "no.pth")


def test_auxiliary_heads_are_left_out(path: Path) -> None:
    auxiliary = {"aux1.fc.weight": torch.zeros(1), "AuxLogits.fc.bias": torch.zeros(1)}
    network = put(
        nn.Linear(2, 2), {"weight": torch.eye(2), "bias": torch.ones(2)} | auxiliary, path, "x"
    )
    assert not network.training
    assert torch.equal(network.weight, torch.eye(2))


def test_any_other_surplus_is_refused(path: Path) -> None:
    given = {"weight": torch.eye(2), "bias": torch.ones(2), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"3 tensors do not fit x .* not expected extra"):
        put(nn.Linear(2, 2), given, path, "x")


def test_names_of_an_old_densenet_and_missing_counts_are_no_hindrance(path: Path) -> None:
    network = torchvision.models.densenet121(num_classes=3)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with torch.random.fork_rng():
        fresh = torchvision.models.densenet121(num_classes=3)
    put(fresh, old, path, "x")
    found, expected = fresh.state_dict(), network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
