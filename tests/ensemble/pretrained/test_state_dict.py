"""Files that strangers wrote."""

import argparse
import contextlib
import io
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from ensemble.checkpoints.file import check_finite
from ensemble.checkpoints.state_dict import digest_state, put, read_state, select_network
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


NAMES = state().keys()

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
    **{
        f"averaged under {name}": {"model": state(2), "state_dict": state(2), name: content}
        for name, content in (
            ("ema", state()),
            ("model_ema_state_dict", state()),
            ("swa_model", {"n_averaged": torch.tensor(9), **prefixed("module.", state())}),
            ("ema_model", {"decay": 0.9, "module": state()}),
        )
    },
    "with an average that has no weights": {"model": state(), "model_ema": {"decay": 0.9}},
    "twice wrapped": {"model": {"state_dict": state()}},
    "twice wrapped by a name of its own": {"checkpoint": {"model": prefixed("module.", state())}},
    "beside an optimizer's tensors": {
        "kept": {"weights": state()},
        "optimizer": {"state": {"a.weight": {"exp_avg": torch.zeros(2, 2)}}},
        "optim_state": {0: {"exp_avg": torch.zeros(2, 2)}},
    },
    "of DataParallel around a part": {
        "a.module.weight": state()["a.weight"],
        "a.bias": state()["a.bias"],
    },
    "of DataParallel around a part, in Lightning": {
        "model.a.module.weight": state()["a.weight"],
        "model.a.bias": state()["a.bias"],
    },
    "with a mixture of prefixes": {
        "module.a.weight": state()["a.weight"],
        "_orig_mod.a.bias": state()["a.bias"],
    },
    "of torch.compile around DataParallel": prefixed("_orig_mod.module.", state()),
    "of Lightning": {"state_dict": prefixed("model.", state()), "hyper_parameters": {"lr": 0.1}},
    "of Lightning around torch.compile": {"state_dict": prefixed("model._orig_mod.", state())},
    "of a Lightning module's net": {"state_dict": prefixed("net.", state())},
    "of a Lightning module's own name": {"state_dict": prefixed("encoder.classifier.", state())},
    "of Lightning with a loss": {
        "state_dict": {**prefixed("model.", state()), "criterion.weight": torch.ones(2)}
    },
    "of a part that was compiled": {"a._orig_mod.weight": state()["a.weight"]}
    | {"a.bias": state()["a.bias"]},
    "of FSDP": prefixed("_fsdp_wrapped_module.", state()),
    "under net": {"net": state(), "epoch": 3},
    "under a name of its own": {
        "classifier_weights": state(),
        "epoch": 3,
        "optimizer": {"state": {}},
    },
    "with a script's arguments": {"state_dict": state(), "args": argparse.Namespace(lr=1, tag="a")},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED.keys())
def test_weights_are_found_whatever_they_are_wrapped_in(path: Path, content: object) -> None:
    torch.save(content, path)
    found, _ = select_network(read_state(path), NAMES)
    assert found.keys() == state().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())


def test_what_is_ignored_is_named(path: Path) -> None:
    for prefix, loss in (("model.", "criterion.weight"), ("", "loss_fn.w"), ("", "a.criterion.w")):
        torch.save({**prefixed(prefix, state()), loss: torch.ones(2)}, path)
        found, ignored = select_network(read_state(path), NAMES)
        assert (found.keys(), ignored) == (NAMES, (loss,))
    original = {**prefixed("model.", {"b.weight": torch.ones(1)}), "criterion.w": torch.ones(2)}
    assert select_network(original, NAMES)[0].keys() == {"b.weight"}, "timm may know this name"
    assert (
        select_network(state() | {"criterion.w": torch.ones(1)}, {*NAMES, "criterion.w"})[1] == ()
    )


def test_two_networks_that_fit_are_refused_by_name(path: Path) -> None:
    torch.save({**prefixed("student.", state()), **prefixed("teacher.", state(2))}, path)
    with pytest.raises(CheckpointError, match=r"2 networks that fit, below student\., teacher\."):
        select_network(read_state(path), NAMES)
    torch.save({"student": state(), "teacher": state(2)}, path)
    with pytest.raises(CheckpointError, match="2 sets of tensors by name: student, teacher"):
        read_state(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "0123abcd", "weights.pth", "weights.bin"])
def test_safetensors_of_any_name_are_read_alike(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    safetensors.torch.save_file(prefixed("module.", state()), path)
    assert select_network(read_state(path), NAMES)[0].keys() == state().keys()


@pytest.mark.parametrize("length", range(70, 200))
def test_safetensors_are_known_whatever_the_length_of_their_header(
    tmp_path: Path, length: int
) -> None:
    path = tmp_path / "blob"
    safetensors.torch.save_file({"a" * (length - 60): torch.ones(1)}, path)
    assert len(read_state(path)) == 1
    assert len(digest_state(path)) == 64


def test_pickle_that_is_called_safetensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save(state(), path)
    assert read_state(path).keys() == NAMES


def sharded(folder: Path) -> Path:
    """The index of a checkpoint in two shards."""
    files = {"a.weight": "model-1.safetensors", "a.bias": "model-2.safetensors"}
    for name, file in files.items():
        safetensors.torch.save_file({name: state()[name]}, folder / file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": files}))
    return path


def test_shards_are_read_by_their_index_and_each_is_part_of_the_identity(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    found = read_state(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in state().items())
    before = digest_state(path)
    safetensors.torch.save_file({"a.bias": torch.ones(2)}, tmp_path / "model-2.safetensors")
    assert digest_state(path) != before


def test_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (tmp_path / "model-2.safetensors").rename(tmp_path / "model-3.safetensors")
    with pytest.raises(
        CheckpointError, match=r"2 shards, and model-2\.safetensors is not beside it"
    ):
        read_state(path)
    safetensors.torch.save_file({"b": torch.ones(1)}, tmp_path / "model-2.safetensors")
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors lacks a\.bias"):
        read_state(path)
    path.write_text(json.dumps({"weight_map": {"a": "../secret"}}))
    with pytest.raises(CheckpointError, match=r"names the shard '\.\./secret'"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"<!DOCTYPE html><html>", "it is a web page.*resolve"),
        (b"\n  <HTML>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs.*git lfs pull"),
        (b'{"architectures": ["ResNet"]}', "it is JSON, and not the index"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
        (b"", "it is empty"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a"])
def test_what_is_no_weights_is_told_by_its_first_bytes(
    tmp_path: Path, name: str, content: bytes, match: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        read_state(tmp_path / name)


def test_another_archive_is_told_by_what_is_in_it(tmp_path: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(CheckpointError, match=r"it is a program of TorchScript.*state_dict"):
        read_state(path)
    np.savez(tmp_path / "a.npz", weight=np.ones(2))
    with pytest.raises(CheckpointError, match="an archive of NumPy arrays"):
        read_state(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "weights.pth")
    with pytest.raises(CheckpointError, match="ZIP archive of 1 other files"):
        read_state(tmp_path / "a.zip")


def test_reason_is_never_an_advice_to_run_the_code_in_a_file(path: Path) -> None:
    path.write_bytes(b"\0" * 600)
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert "2.6" not in str(caught.value)


def test_two_averages_are_refused_by_name(path: Path) -> None:
    torch.save({"model": state(), "ema": state(2), "swa_model": state(3)}, path)
    with pytest.raises(CheckpointError, match="2 sets of tensors by name: ema, swa_model"):
        read_state(path)


def test_integers_are_no_weights(path: Path) -> None:
    network = nn.Linear(2, 2)
    for integers in (torch.int8, torch.bool, torch.int64, torch.complex64):
        given = {"weight": torch.ones(2, 2).to(integers), "bias": torch.zeros(2)}
        with pytest.raises(
            CheckpointError, match=rf"weight holds {str(integers)[6:]}, and the network"
        ):
            put(network, given, path, "x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_weights_that_are_not_numbers_are_named(path: Path, value: float, name: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_finite(path, network)
    with torch.no_grad():
        network.state_dict()[name].view(-1)[0] = value
    with pytest.raises(
        CheckpointError, match=rf"NaN or infinity in the weights .*: in 1 tensors, .* of {name}"
    ):
        check_finite(path, network)


@pytest.mark.filterwarnings("ignore:Validating sparse:UserWarning")
@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (
            torch.zeros(1).expand(10**12),
            "is said to have 1000000000000 numbers, and the file has 1 of",
        ),
        (torch.zeros(3, 3).to_sparse(), "layout torch.sparse_coo"),
        (torch.zeros(3, device="meta"), "device meta, without numbers"),
    ],
)
def test_tensors_without_their_numbers_are_refused(
    path: Path, tensor: torch.Tensor, match: str
) -> None:
    torch.save({"a": tensor}, path)
    with pytest.raises(CheckpointError, match=match):
        read_state(path)


@pytest.mark.parametrize("extra", [Evil(), argparse.Namespace(lr=Evil()), Path("a")])
def test_file_that_would_run_code_is_refused_with_the_reason_and_the_way_out(
    path: Path, extra: object
) -> None:
    torch.save({"state_dict": state(), "extra": extra}, path)
    with pytest.raises(CheckpointError, match=r"without running code") as caught:
        read_state(path)
    assert caught.match(r"it asks for .*(append|list|getattr|Path).*It was not run.*safetensors")
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


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change, drop, double or replace a few bytes."""
    mutated = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(mutated) or 1)
        match rng.randrange(4):
            case 0 if mutated:
                mutated[place] ^= 1 << rng.randrange(8)
            case 1:
                del mutated[place : place + rng.randint(1, 20)]
            case 2:
                mutated[place:place] = mutated[place : place + rng.randint(1, 20)]
            case _:
                mutated[place : place + 1] = rng.randbytes(1)
    return bytes(mutated)


def mutate_inside(archive: bytes, rng: random.Random) -> bytes:
    """Mutate the pickle in torch's archive, whose checksums would find it otherwise."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, mutate(content, rng) if name.endswith("data.pkl") else content)
    return out.getvalue()


def read_mutated(folder: Path, count: int) -> None:
    """Read so many mutated files: each is read or refused, and no code in one is run."""
    rng, archive, older = random.Random(0), io.BytesIO(), io.BytesIO()
    content = {"state_dict": state(), "epoch": 3, "args": argparse.Namespace(lr=1, sizes=[1, 2])}
    torch.save(content, archive)
    torch.save(content, older, _use_new_zipfile_serialization=False)
    files = (archive.getvalue(), older.getvalue(), safetensors.torch.save(state()))
    for number in range(count):
        kind = rng.randrange(4)
        mutated = mutate_inside(files[0], rng) if kind == 3 else mutate(files[kind], rng)
        path = folder / ("a.pth", "a.safetensors", "a")[number % 3]
        path.write_bytes(mutated)
        with contextlib.suppress(CheckpointError):
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_state(path).values())
            digest_state(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    read_mutated(tmp_path, 300)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ten_thousand_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    read_mutated(tmp_path, 10_000)
