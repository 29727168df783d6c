"""An index that was fetched finds its shards, under their own names, whatever their copies are called."""

import json
from pathlib import Path

import pytest

from ensemble.checkpoints.shard_index import fetch_shards, is_index, read_index
from ensemble.errors import CheckpointError

PLACE = "s3://bucket/net/model.safetensors.index.json"
SHARDS = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}


def laid(cache: Path, versions: dict[str, bytes]) -> Path:
    """Fetch an index and its shards, of which the cache has copies under other names."""
    cache.mkdir(exist_ok=True)
    index = cache / "0123.json"
    index.write_text(json.dumps({"weight_map": SHARDS}))

    def fetch(place: str) -> Path:
        name = place.removeprefix("s3://bucket/net/")
        copy = cache / f"{versions[name].hex()}.safetensors"
        copy.write_bytes(versions[name])
        return copy

    return fetch_shards(PLACE, index, fetch)


def test_shards_of_a_fetched_index_lie_beside_it_under_their_own_names(tmp_path: Path) -> None:
    versions = {"model-1.safetensors": b"1", "model-2.safetensors": b"2"}
    index = laid(tmp_path / "cache", versions)
    assert index.name == "model.safetensors.index.json"
    assert is_index(index)
    assert read_index(index) == SHARDS
    assert {name: (index.parent / name).read_bytes() for name in versions} == versions
    assert laid(tmp_path / "cache", versions) == index


def test_shard_that_was_replaced_makes_another_checkpoint(tmp_path: Path) -> None:
    first = laid(tmp_path, {"model-1.safetensors": b"1", "model-2.safetensors": b"2"})
    second = laid(tmp_path, {"model-1.safetensors": b"1", "model-2.safetensors": b"3"})
    assert (first.parent / "model-2.safetensors").read_bytes() == b"2"
    assert (second.parent / "model-2.safetensors").read_bytes() == b"3"


@pytest.mark.parametrize("name", ["../a.safetensors", "a/b.safetensors", "..", "/etc/passwd", ""])
def test_index_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="expected the name of a file beside it"):
        read_index(path)
