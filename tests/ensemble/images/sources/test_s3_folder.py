import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from ensemble.errors import ConfigError, DataError
from ensemble.images.open import RemoteSource, Source, decode_shard, open_source
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import ShardSpec
from ensemble.storage import s3_requests
from ensemble.storage.settings import S3Config

# aiobotocore's connections are closed by their finaliser, and moto's server by its thread's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Upload = Callable[[Path, str], None]


@pytest.fixture
def client(moto_port: int) -> Any:
    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}")


@pytest.fixture
def upload(client: Any) -> Upload:
    def put(folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                client.put_object(Bucket="tables", Key=key, Body=path.read_bytes())

    return put


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 24 images, some files that are none, one that is torn, and one too large."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(24):
        path = (
            root / ("cat", "cat-big", "dog")[i % 3] / ("deeper/" if i % 2 else "") / f"{i:02d}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7 + i, 3), np.uint8)).save(path)
    (root / "dog" / "torn.png").write_bytes((root / "cat" / "00.png").read_bytes()[:60])
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(root / "dog" / "vast.png")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "README.md").write_text("no class")
    return root


def remote(prefix: str, port: int, test: str | None = None, **settings: Any) -> Source:
    storage = S3Config(endpoint=f"http://127.0.0.1:{port}", **settings)
    url = f"s3://tables/{prefix}"
    return open_source(FolderConfig(path=url, test=test, max_pixels=10_000, storage=storage))


def test_a_prefix_is_the_folder_that_was_uploaded(
    folder: Path, upload: Upload, moto_port: int
) -> None:
    upload(folder, "same/images")
    local, far = (
        open_source(FolderConfig(path=folder, max_pixels=10_000)),
        remote("same/images/", moto_port),
    )
    ours, theirs = local.index(), far.index()
    assert theirs.image_ids.tolist() == ours.image_ids.tolist()
    assert (theirs.labels == ours.labels).all()
    assert theirs.classes == ours.classes == ("cat", "cat-big", "dog")
    spec = ShardSpec(tuple(ours.image_ids.tolist()))
    here, there = decode_shard(local, spec), decode_shard(far, spec)
    assert there.pixels.tobytes() == here.pixels.tobytes()
    assert [bad.image_id for bad in there.bad] == [bad.image_id for bad in here.bad]
    reasons = {bad.image_id: bad.reason for bad in there.bad}
    assert reasons["dog/vast.png"] == "200 x 200 pixels, over max_pixels = 10000"
    assert "dog/torn.png" in reasons


def test_identity_is_the_content_and_not_the_place(
    folder: Path, upload: Upload, client: Any, moto_port: int
) -> None:
    upload(folder, "first")
    upload(folder, "second/copy")
    first, second = (remote(name, moto_port).index().sha256 for name in ("first", "second/copy"))
    assert first == second
    stream = io.BytesIO()
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(stream, "PNG")
    client.put_object(Bucket="tables", Key="first/cat/00.png", Body=stream.getvalue())
    assert remote("first", moto_port).index().sha256 != second


def test_lost_reads_are_made_again_and_counted(
    folder: Path,
    upload: Upload,
    moto_port: int,
    fault_proxy: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_requests, "FIRST_WAIT_S", 0.001)
    upload(folder, "faulty")
    sound = remote("faulty", moto_port)
    spec = ShardSpec(tuple(sound.index().image_ids.tolist()))
    with fault_proxy(moto_port, 0.3, seed=0) as proxy:
        source = remote("faulty", proxy.port, checksums="when_required")
        found = decode_shard(source, spec)
        assert isinstance(source, RemoteSource)
        assert source.retries > 0
        assert proxy.injected["flipped bit"]
    expected = decode_shard(sound, spec)
    assert found.pixels.tobytes() == expected.pixels.tobytes()
    assert found.bad == expected.bad


def test_object_that_went_away_ends_the_work_and_makes_no_bad_image(moto_port: int) -> None:
    with pytest.raises(
        DataError, match=r"cannot read the image 's3://tables/x/cat/a\.png': no such"
    ):
        decode_shard(remote("x", moto_port), ShardSpec(("cat/a.png",)))


def test_leftovers_and_a_test_prefix_of_its_own_are_as_in_folders(
    folder: Path, upload: Upload, client: Any, moto_port: int
) -> None:
    upload(folder, "own/images")
    upload(folder, "own/held-out")
    for key in ("__MACOSX/cat/a.png", "cat/._a.png", ".DS_Store"):
        client.put_object(Bucket="tables", Key=f"own/images/{key}", Body=b"")
    source = remote("own/images", moto_port, test="s3://tables/own/held-out")
    index = source.index()
    assert "left aside: 3 hidden files or leftovers of other systems, as '.DS_Store'" in index.notes
    assert index.classes == ("cat", "cat-big", "dog")
    is_own = np.char.startswith(index.image_ids, "test/")
    assert (is_own == (index.parts == "test")).all()
    assert is_own.sum() == (~is_own).sum() == 26
    shard = decode_shard(source, ShardSpec(("test/cat/00.png", "cat/00.png")))
    first, second = shard.images()
    assert (first == second).all()


def test_store_that_refuses_ends_the_run_and_makes_no_bad_image(
    rclone_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    source = remote("x", rclone_port, checksums="when_required")
    with pytest.raises(ConfigError, match="the store refuses") as caught:
        decode_shard(source, ShardSpec(("cat/a.png",)))
    assert "wrong-and-secret" not in str(caught.value)


def test_prefix_without_a_class_or_with_an_empty_one_is_refused(
    client: Any, moto_port: int
) -> None:
    with pytest.raises(ConfigError, match="folder 's3://tables/nothing' has no sub-folder"):
        remote("nothing", moto_port).index()
    client.put_object(Bucket="tables", Key="empty/cat/notes.txt", Body=b"no image")
    with pytest.raises(
        ConfigError, match="the class 'cat' has no image in 's3://tables/empty/cat'"
    ):
        remote("empty", moto_port).index()
