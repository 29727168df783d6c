"""CIFAR's files, against torchvision's own reader, on small files as Python 2 wrote them."""

import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.open import open_source
from ensemble.images.settings import CifarConfig, SplitConfig
from ensemble.images.sources.cifar import RELEASES, CifarFiles, Release
from ensemble.images.split import split

CLASSES = ["apple", "bear", "chair"]
TRAIN, TEST = 12, 6


def old_text(text: str | bytes) -> bytes:
    """A string of Python 2, which is bytes."""
    content = text.encode() if isinstance(text, str) else text
    return b"T" + struct.pack("<i", len(content)) + content


def old_list(parts: list[bytes]) -> bytes:
    return b"](" + b"".join(parts) + b"e"


def old_integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def old_array(array: np.ndarray) -> bytes:
    """An array of bytes as NumPy's of 2009 wrote it."""
    new = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + old_text("b")
        + b"\x87R"
    )
    dtype = b"cnumpy\ndtype\n" + old_text("u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + old_text("|") + b"NNN" + old_integer(-1) * 2 + b"K\x00tb"
    shape = b"".join(map(old_integer, array.shape)) + b"\x86"
    return new + b"(K\x01" + shape + dtype + b"\x89" + old_text(array.tobytes()) + b"tb"


def old_pickle(values: dict[str, bytes]) -> bytes:
    items = b"".join(old_text(key) + value for key, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3 * 32 * 32), np.uint8)


def batch(count: int, seed: int, labels: str) -> bytes:
    shown = [old_integer(row % len(CLASSES)) for row in range(count)]
    return old_pickle(
        {
            "batch_label": old_text("testing batch 1 of 1"),
            labels: old_list(shown),
            "data": old_array(pixels(count, seed)),
            "filenames": old_list([old_text(f"{row}.png") for row in range(count)]),
        }
    )


def write(root: Path, kind: str) -> Release:
    """Small files in the published layout; returns what recognises these ones instead."""
    release = RELEASES[kind]
    names = old_list([old_text(name) for name in CLASSES])
    content = {
        **{n: batch(TRAIN, i, release.labels) for i, n in enumerate(release.train)},
        **{n: batch(TEST, 99, release.labels) for n in release.test},
        release.meta[0]: old_pickle({release.names: names}),
    }
    (root / release.folder).mkdir()
    for name, data in content.items():
        (root / release.folder / name).write_bytes(data)
    checksums = {name: md5(data).hexdigest() for name, data in content.items()}
    return replace(
        release,
        train={name: checksums[name] for name in release.train},
        test={name: checksums[name] for name in release.test},
        meta=(release.meta[0], checksums[release.meta[0]]),
    )


def theirs(kind: str, root: Path, release: Release, train: bool) -> datasets.CIFAR10:
    """torchvision's reader, told to take the small files for the published ones."""
    parent = datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100
    told = {
        "train_list": [list(item) for item in release.train.items()],
        "test_list": [list(item) for item in release.test.items()],
        "meta": {"filename": release.meta[0], "key": release.names, "md5": release.meta[1]},
    }
    reader: datasets.CIFAR10 = type("Small", (parent,), told)(root, train=train)
    return reader


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_files_are_recognised_by_the_checksums_that_torchvision_has(kind: str) -> None:
    release = RELEASES[kind]
    official = datasets.CIFAR10 if kind == "cifar10" else datasets.CIFAR100
    assert dict(official.train_list) == release.train
    assert dict(official.test_list) == release.test
    assert (official.meta["filename"], official.meta["md5"]) == release.meta
    assert official.meta["key"] == release.names
    assert official.base_folder == release.folder
    assert (official.url, official.tgz_md5) == (release.url, release.archive_md5)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_pixels_labels_and_classes_are_those_that_torchvision_reads(
    kind: str, tmp_path: Path
) -> None:
    release = write(tmp_path, kind)
    source = CifarFiles(tmp_path, release)
    index = source.index()
    assert index.classes == tuple(CLASSES)
    for name, is_train in (("train", True), ("test", False)):
        reader = theirs(kind, tmp_path, release, is_train)
        ids = [f"{name}/{row:06d}" for row in range(len(reader))]
        at = [index.image_ids.tolist().index(image_id) for image_id in ids]
        assert index.labels[at].tolist() == reader.targets
        np.testing.assert_array_equal([source.decode(i) for i in ids], reader.data)
    assert len(index) == TRAIN * len(release.train) + TEST


def test_the_test_file_can_be_the_test_split(tmp_path: Path) -> None:
    index = CifarFiles(tmp_path, write(tmp_path, "cifar100")).index()
    found = split(index, SplitConfig(train=6, search=6, test_from="test/"), 0)
    assert found.test.image_ids.tolist() == [f"test/{row:06d}" for row in range(TEST)]


def test_the_same_files_are_the_same_images_wherever_they_lie(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    hashes = set()
    for root in roots:
        root.mkdir()
        hashes.add(CifarFiles(root, write(root, "cifar100")).index().sha256)
    assert len(hashes) == 1


class Trap:
    """What a pickle can do: run any function when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_with_another_checksum_is_not_unpickled(tmp_path: Path) -> None:
    release = write(tmp_path, "cifar100")
    (tmp_path / release.folder / "train").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(
        ConfigError, match=r"has the MD5 \w+, and the published file .*download=true"
    ):
        CifarFiles(tmp_path, release).index()
    assert not (tmp_path / "sprung").exists()


def test_not_even_the_right_checksum_lets_a_pickle_run_code(tmp_path: Path) -> None:
    release = write(tmp_path, "cifar100")
    content = pickle.dumps(Trap(tmp_path / "sprung"))
    (tmp_path / release.folder / "train").write_bytes(content)
    forged = replace(release, train={"train": md5(content).hexdigest()})
    with pytest.raises(DataError, match="which no array needs"):
        CifarFiles(tmp_path, forged).index()
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A folder, and its address on loopback."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_files_that_are_not_there_are_fetched_once_and_checked(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    url, site = served
    made = tmp_path / "made"
    made.mkdir()
    release = write(made, "cifar100")
    archive = site / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made / release.folder, release.folder)
    checksum = md5(archive.read_bytes()).hexdigest()
    online = replace(release, url=f"{url}/{archive.name}", archive_md5=checksum)
    root = tmp_path / "root"
    found = CifarFiles(root, online, download=True).index()
    assert found.sha256 == CifarFiles(made, release).index().sha256
    archive.unlink()
    assert CifarFiles(root, online, download=True).index().sha256 == found.sha256
    other = replace(online, archive_md5="0" * 32)
    with pytest.raises(ConfigError, match=r"cannot fetch http.*download=false"):
        CifarFiles(tmp_path / "other", other, download=True).index()


def test_files_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*cifar-100-python.*download=true"):
        open_source(CifarConfig(kind="cifar100", path=tmp_path)).index()


@pytest.mark.parametrize("image_id", ["train/000012", "test/x", "meta/000000", "train"])
def test_an_id_that_is_not_there_cannot_be_decoded(image_id: str, tmp_path: Path) -> None:
    source = CifarFiles(tmp_path, write(tmp_path, "cifar100"))
    with pytest.raises(DecodeError, match="no image"):
        source.decode(image_id)
