import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import is_whole
from ensemble.errors import CheckpointError, UnknownNameError
from ensemble.models import registry as models

METADATA = {"architecture": "resnet14_small", "num_classes": "10", "head": "head", "seed": "3"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    saved = tmp_path / "weights" / "resnet.safetensors"
    checkpoint.save(models.build("resnet14_small", 10, seed=3), saved, METADATA)
    return saved


def test_what_is_saved_comes_back(path: Path) -> None:
    expected = models.build("resnet14_small", 10, seed=3).state_dict()
    weights, metadata = checkpoint.load(path)
    assert metadata == METADATA
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_loaded_network_is_in_eval_mode_and_gives_the_same_logits(path: Path) -> None:
    network = models.build("resnet14_small", 10, seed=3).eval()
    loaded = checkpoint.load_network(path, "resnet14_small", 10)
    images = torch.rand(2, 3, 16, 16)
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))


def test_equal_weights_and_metadata_give_equal_bytes(path: Path) -> None:
    again = path.with_name("again.safetensors")
    shuffled = dict(reversed(METADATA.items()))
    checkpoint.save(models.build("resnet14_small", 10, seed=3), again, shuffled)
    assert again.read_bytes() == path.read_bytes()


def test_saving_leaves_one_file_and_replaces_an_older_one(path: Path) -> None:
    checkpoint.save(models.build("vgg11_small", 4), path, {"architecture": "vgg11_small"})
    assert os.listdir(path.parent) == [path.name]
    assert checkpoint.load(path)[1] == {"architecture": "vgg11_small"}


def test_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    (occupied / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="occupied"):
        checkpoint.save(models.build("vgg11_small", 4), occupied, {})
    assert os.listdir(tmp_path) == ["occupied"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read.*Check the path"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read|not a whole safetensors file"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"resnet\.safetensors: \d+ bytes.*truncated"):
        checkpoint.load(path)


def test_file_of_another_format_is_refused(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="of another format"):
        checkpoint.load(path)


def test_safetensors_of_someone_else_is_refused(path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"keys \['format'\], and no readable"):
        checkpoint.load(path)


def test_later_format_version_is_refused(path: Path) -> None:
    header = {"ensemble_checkpoint": '{"format_version": 2, "metadata": {}}'}
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, header)
    with pytest.raises(CheckpointError, match="format version 2, but this program reads version 1"):
        checkpoint.load(path)


def test_weights_of_another_architecture_are_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="are of 'resnet14_small', but 'vgg11_small' was"):
        checkpoint.load_network(path, "vgg11_small", 10)


def test_weights_with_other_names_are_refused(path: Path) -> None:
    checkpoint.save(models.build("vgg11_small", 10), path, {})
    with pytest.raises(CheckpointError, match=r"missing features\.1\..*and \d+ more; not expected"):
        checkpoint.load_network(path, "resnet14_small", 10)


def test_weights_for_another_number_of_classes_are_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"head\.weight has shape \[10, 64\].*\[7, 64\]"):
        checkpoint.load_network(path, "resnet14_small", 7)


def test_unknown_architecture_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no architecture 'resnet'"):
        checkpoint.load_network(tmp_path / "none", "resnet", 10)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.nightly), 5])
def test_one_flipped_bit_anywhere_is_found(path: Path, stride: int) -> None:
    sound = path.read_bytes()
    assert is_whole(path)
    header = 8 + int.from_bytes(sound[:8], "little")
    places = [
        *range(0, header, 97 * stride),
        *range(sound.rfind(b"sha256") - 9, header, 4 * stride),
        len(sound) - 1,
    ]
    for place in [*places, (header + len(sound)) // 2]:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << place % 7
        path.write_bytes(damaged)
        if is_whole(path):
            # A bit of the padding, or of the case of a digit, changes nothing that is read.
            assert checkpoint.load(path)[1] == METADATA
            assert bytes(damaged[header:]) == sound[header:]
            assert chr(sound[place]) in "abcdef "
        else:
            with pytest.raises(CheckpointError):
                checkpoint.load(path)
    path.write_bytes(sound)
    assert is_whole(path)


def test_checkpoint_without_a_digest_is_read(path: Path) -> None:
    weights, metadata = checkpoint.load(path)
    header = {"ensemble_checkpoint": json.dumps({"format_version": 1, "metadata": metadata})}
    safetensors.torch.save_file(weights, path, header)
    assert is_whole(path)
    assert checkpoint.load(path)[1] == METADATA


def test_metadata_that_looks_like_a_digest_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for text in ("0" * 64, 'sha256": "' + "0" * 64, '\\"sha256\\": \\"' + "0" * 64):
        checkpoint.save_weights({"a": torch.zeros(1)}, path, {"a": text, "z": text, "sha256": text})
        assert is_whole(path)
        assert checkpoint.load(path)[1]["z"] == text
