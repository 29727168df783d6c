from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from ensemble.storage.local_store import LocalStore
from jobs.settings import RunConfig, load_run_config
from jobs.stored_runs.layout import RunFolder, parse_run_config
from jobs.stored_runs.publish import publish_config, publish_results

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "digits.yaml"


class Diary(LocalStore):
    """A store that keeps what was done to it, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.__dict__["done"] = []

    def replace(self, key: str, data: bytes) -> None:
        self.__dict__["done"].append(("put", key))
        super().replace(key, data)

    def remove(self, key: str) -> None:
        self.__dict__["done"].append(("remove", key))
        super().remove(key)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "mine")
    contents = {
        "ensemble/ensemble.json": "names a and b",
        "ensemble/members/a.safetensors": "a",
        "ensemble/members/b.safetensors": "b",
        "report.html": "page",
        "report.json": "report",
    }
    for name, text in contents.items():
        (made.path / name).parent.mkdir(parents=True, exist_ok=True)
        (made.path / name).write_text(text)
    return made


def test_names_come_after_what_they_name_and_the_report_last(
    folder: RunFolder, tmp_path: Path
) -> None:
    store = Diary(tmp_path / "there")
    publish_results(store, folder)
    assert store.__dict__["done"] == [
        ("put", "ensemble/members/a.safetensors"),
        ("put", "ensemble/members/b.safetensors"),
        ("put", "ensemble/ensemble.json"),
        ("put", "report.html"),
        ("put", "report.json"),
    ]
    assert store.read("ensemble/members/b.safetensors") == b"b"


def test_an_artifact_is_never_absent_while_another_takes_its_place(
    folder: RunFolder, tmp_path: Path
) -> None:
    publish_results(LocalStore(tmp_path / "there"), folder)
    (folder.artifact / "members" / "a.safetensors").unlink()
    (folder.artifact / "members" / "c.safetensors").write_text("c")
    (folder.artifact / "ensemble.json").write_text("names b and c")
    store = Diary(tmp_path / "there")
    publish_results(store, folder)
    assert store.__dict__["done"] == [
        ("put", "ensemble/members/c.safetensors"),
        ("put", "ensemble/ensemble.json"),
        ("remove", "ensemble/members/a.safetensors"),
        ("put", "report.html"),
        ("put", "report.json"),
    ]


def test_artifact_that_is_there_is_not_uploaded_again(folder: RunFolder, tmp_path: Path) -> None:
    publish_results(LocalStore(tmp_path / "there"), folder)
    store = Diary(tmp_path / "there")
    publish_results(store, folder)
    assert store.__dict__["done"] == [("put", "report.html"), ("put", "report.json")]


def test_place_of_another_run_is_refused_and_access_is_no_difference(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "there")
    config = load_run_config(CONFIG)
    publish_config(store, config)
    other = load_run_config(CONFIG, ["storage.endpoint=http://127.0.0.1:9", "cluster.hosts=1"])
    publish_config(store, other)
    assert parse_run_config(store.read("config.json"), "x", {}) == config, "as it was begun"
    with pytest.raises(ConfigError, match="belongs to another config: seed is 0 there and 1 here"):
        publish_config(store, load_run_config(CONFIG, ["seed=1"]))


def test_how_images_are_reached_is_no_part_of_a_runs_identity() -> None:
    def config(*words: str) -> RunConfig:
        source = "images.source={kind: folder, path: s3://bucket/images}"
        return load_run_config(CONFIG, [source, *words])

    plain = config("storage.endpoint=http://127.0.0.1:9", "storage.runs=s3://bucket/runs")
    own = config("images.source.storage={anonymous: true}")
    assert plain.identity == own.identity == config().identity
    assert plain.image_source.storage.endpoint == "http://127.0.0.1:9"
    assert own.image_source.storage.anonymous
    other = config("images.source.path=s3://bucket/others")
    assert other.identity != plain.identity
