import gc
from pathlib import Path
from typing import Any

import boto3
import pytest

from ensemble.errors import CheckpointError, ConfigError
from ensemble.storage import s3_requests
from ensemble.storage.fetch import FetchedFolder, fetch
from ensemble.storage.settings import S3Config

from .fault_proxy import FaultProxy

# aiobotocore's connections are closed by their finaliser, and moto's server by its thread's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

URL = "s3://tables/weights/a.safetensors"
CONTENT = bytes(range(256)) * 400


@pytest.fixture
def client(moto_port: int) -> Any:
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}")
    client.put_object(Bucket="tables", Key="weights/a.safetensors", Body=CONTENT)
    return client


def storage(port: int) -> S3Config:
    return S3Config(endpoint=f"http://127.0.0.1:{port}")


def test_an_object_is_fetched_once_and_kept_by_its_content(
    client: Any, moto_port: int, tmp_path: Path
) -> None:
    with FaultProxy(moto_port, 0, seed=0) as proxy:
        found = fetch(URL, storage(proxy.port), tmp_path)
        assert found.read_bytes() == CONTENT
        assert found.suffix == ".safetensors"
        assert proxy.body_bytes == len(CONTENT)
        assert fetch(URL, storage(proxy.port), tmp_path) == found
        assert proxy.body_bytes == len(CONTENT)
    assert list(tmp_path.iterdir()) == [found]


def test_a_damaged_copy_and_a_replaced_object_are_fetched_anew(
    client: Any, moto_port: int, tmp_path: Path
) -> None:
    found = fetch(URL, storage(moto_port), tmp_path)
    found.write_bytes(CONTENT[:-1] + b"!")
    assert fetch(URL, storage(moto_port), tmp_path).read_bytes() == CONTENT
    client.put_object(Bucket="tables", Key="weights/a.safetensors", Body=b"newer")
    newer = fetch(URL, storage(moto_port), tmp_path)
    assert newer.read_bytes() == b"newer"
    assert newer != found


def test_bytes_that_are_damaged_under_way_are_never_kept(
    client: Any, moto_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "FIRST_WAIT_S", 0.001)
    refused = 0
    for seed in range(6):
        with FaultProxy(moto_port, 0.5, seed, faults=("flipped bit",)) as proxy:
            try:
                bare = storage(proxy.port).model_copy(update={"checksums": "when_required"})
                assert fetch(URL, bare, tmp_path / str(seed)).read_bytes() == CONTENT
            except CheckpointError as error:
                refused += "two reads of its 102,400 bytes gave different ones" in str(error)
                assert list((tmp_path / str(seed)).iterdir()) == []
    assert refused


def test_what_is_not_there_is_named(client: Any, moto_port: int, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"s3://tables/none\.pt: cannot be fetched: .* no such"
    ):
        fetch("s3://tables/none.pt", storage(moto_port), tmp_path)
    with pytest.raises(ConfigError, match="names no bucket"):
        fetch("s3:///a.pt", storage(moto_port), tmp_path)
    assert fetch("/some/path.pt", storage(moto_port), tmp_path) == Path("/some/path.pt")


def test_fetched_folder_goes_away_with_its_holder_and_cannot_be_left(
    client: Any, moto_port: int
) -> None:
    folder = FetchedFolder("s3://tables/weights", storage(moto_port))
    folder.fetch("a.safetensors")
    path = folder.path
    assert (path / "a.safetensors").read_bytes() == CONTENT
    with pytest.raises(CheckpointError, match=r"names '\.\./b', outside its folder"):
        folder.fetch("../b")
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .*no such object"):
        folder.fetch("none")
    del folder
    gc.collect()
    assert not path.exists()
