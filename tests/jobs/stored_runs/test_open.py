"""Runs whose files lie on S3, on the commands that take them; no network is trained or run."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ensemble.errors import ConfigError, DamagedTableError, TableError
from ensemble.storage.local_store import LocalStore
from ensemble.storage.open import open_store
from jobs.__main__ import app
from jobs.cli.app import DEFAULT_CONFIG
from jobs.settings import load_run_config
from jobs.stored_runs.layout import open_run_folder
from jobs.stored_runs.open import continue_run, open_run, open_table
from jobs.stored_runs.publish import publish_config
from jobs.stored_runs.tables import table_store

from ...ensemble.storage.fault_proxy import FaultProxy

# aiobotocore's connections are closed by their finaliser, and moto's server by its thread's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def ensemble(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two members' probabilities of 60 images, and the labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    paths = []
    for name in ("a", "b"):
        scores = np.exp(rng.normal(size=(60, 3)) + 2 * np.eye(3)[labels])
        np.save(tmp_path / f"{name}.npy", scores / scores.sum(axis=1, keepdims=True))
        paths.append(tmp_path / f"{name}.npy")
    np.save(tmp_path / "labels.npy", labels)
    return [*paths, tmp_path / "labels.npy"]


def imported(place: str, files: list[Path], *words: str) -> None:
    *predictions, labels = files
    ensemble("table", "import", place, *predictions, *words, "--labels", labels)


def test_every_verb_that_takes_a_folder_takes_a_prefix(
    moto_port: int, files: list[Path], tmp_path: Path
) -> None:
    place, words = "s3://tables/verbs/run", [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    imported(place, files, *words)
    shown = json.loads(ensemble("table", "show", place, *words, "--json").stdout)
    assert [column["member"] for column in shown["columns"]] == ["a", "b"]
    assert shown["unreferenced"] == []
    imported(str(tmp_path / "here"), files)
    same = ensemble("table", "diff", place, tmp_path / "here", *words).stdout
    assert [line.split() for line in same.splitlines()] == [["same", "a"], ["same", "b"]]
    assert "nothing is damaged" in ensemble("table", "repair", place, *words, "--check").stdout
    assert "0 files removed" in ensemble("table", "gc", place, *words).stdout
    out = tmp_path / "x.npz"
    ensemble("table", "export", f"{place}/table", *words, "--out", out, "--format", "npz")
    assert out.exists()
    found = ensemble("search", place, "kind=line", "stability=0", *words).stdout
    assert "report: s3://tables/verbs/run/search/line-k1-" in found.replace("\n", "")
    here = ensemble("search", tmp_path / "here", "kind=line", "stability=0").stdout
    assert found.splitlines()[1:10] == here.splitlines()[1:10]


def test_files_that_no_entry_names_are_shown_and_a_lost_log_is_one_error(
    moto_port: int, files: list[Path]
) -> None:
    place, words = "s3://tables/orphans", [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    imported(place, files, *words)
    table, _ = open_table(place, words)
    first, last = table.keys("log")
    table.remove(last)
    shown = ensemble("table", "show", place, *words).stdout
    assert "no log entry names columns/" in shown
    assert "the loss of the log's last entries" in shown
    table.remove(first)
    with pytest.raises(
        DamagedTableError, match=r"orphans/table has 2 shard files and no commit log"
    ):
        ensemble("table", "show", place, *words)
    assert "2 shard files and no commit log" in ensemble("table", "repair", place, *words).stdout
    imported(place, files, *words)
    assert "nothing is damaged" in ensemble("table", "repair", place, *words).stdout


@pytest.mark.parametrize("verb", [["repair"], ["repair", "--check"], ["gc"]], ids=" ".join)
def test_page_of_a_captive_portal_is_taken_for_no_loss(
    moto_port: int, fault_proxy: type[FaultProxy], files: list[Path], verb: list[str]
) -> None:
    place = f"s3://tables/portal-{'-'.join(verb)}"
    imported(place, files, f"storage.endpoint=http://127.0.0.1:{moto_port}")
    table, _ = open_table(place, [f"storage.endpoint=http://127.0.0.1:{moto_port}"])
    before = {name: table.read(name) for name in table.keys("")}
    with fault_proxy(moto_port, 1, seed=0, faults=("portal",)) as proxy:
        words = [f"storage.endpoint=http://127.0.0.1:{proxy.port}", "storage.attempts=2"]
        with pytest.raises((ConfigError, TableError), match=r"cannot .* s3://tables/portal"):
            ensemble("table", *verb[:1], f"{place}/table", *words, *verb[1:])
        assert proxy.injected["portal"]
    assert {name: table.read(name) for name in table.keys("")} == before


def test_gc_tells_which_files_are_young_and_leaves_files_of_other_programs(
    files: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "run"
    imported(str(place), files)
    table = LocalStore(place / "table")
    strays = ["log/.DS_Store", "columns/Thumbs.db", "lease/00000001 (1).json"]
    for name in strays:
        table.replace(name, b"stray")
    path = "columns/0123456789abcdef/0123456789abcdef.arrow"
    table.replace(path, b"of a crash")
    young = ensemble("table", "gc", place).stdout
    assert f"left {path}: it is not 10 minutes old" in young
    assert "0 files removed\n1 young files left" in young
    os.utime(table.root / path, (time.time() - 3600, time.time() - 3600))
    old = ensemble("table", "gc", place).stdout
    assert f"removed {path}\n1 files removed\n" in old
    assert all(table.read(name) == b"stray" for name in strays)
    assert "nothing is damaged" in ensemble("table", "repair", place, "--check").stdout


def test_single_writer_of_the_run_or_the_command_holds_for_repair_and_gc(
    rclone_port: int, files: list[Path]
) -> None:
    place = "s3://tables/alone"
    words = [
        f"storage.endpoint=http://127.0.0.1:{rclone_port}",
        "storage.checksums=when_required",
    ]
    with pytest.raises(ConfigError, match=r"ignores If-None-Match.*storage\.single_writer=true"):
        imported(place, files, *words)
    imported(place, files, *words, "storage.single_writer=true")
    # From here on the run's own config says so.
    assert "nothing is damaged" in ensemble("table", "repair", place, *words).stdout
    assert "0 files removed" in ensemble("table", "gc", place, *words).stdout
    assert list(open_table(place, words)[0].keys("lease")) == []
    with pytest.raises(ConfigError, match="ignores If-None-Match"):
        ensemble("table", "gc", place, *words, "storage.single_writer=false")


def test_what_is_no_run_and_no_setting_of_storage_is_refused(moto_port: int) -> None:
    words = [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    with pytest.raises(
        ConfigError,
        match=r"'s3://tables/no' is not the folder of a run: it has no config\.json, and no table",
    ):
        open_table("s3://tables/no", words)
    with pytest.raises(ConfigError, match="'s3://tables/no' is not the folder of a run"):
        open_run("s3://tables/no", words)
    with pytest.raises(ConfigError, match="there is no bucket 'nobucket'"):
        open_table("s3://nobucket/x", words)
    with pytest.raises(ConfigError, match=r"cannot read 'k=3'; expected settings of storage"):
        open_table("s3://tables/no", ["k=3"])
    with pytest.raises(ConfigError, match=r"endpont: no such setting\. Did you mean 'endpoint'"):
        open_table("s3://tables/no", ["storage.endpont=http://x"])


def test_run_at_s3_is_taken_up_by_a_machine_that_has_its_url_only(
    moto_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, words = "s3://tables/up/mine", [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    begun = load_run_config(DEFAULT_CONFIG, ["runs=/of/another/machine", "seed=7", *words])
    store = open_store(place, begun.storage)
    publish_config(store, begun)
    monkeypatch.chdir(tmp_path)
    config, folder = continue_run(f"{place}/", words)
    assert (config.identity, folder.path) == (begun.identity, Path("runs/mine"))
    assert config.storage.runs == "s3://tables/up"
    assert table_store(config, folder.path).url == f"{place}/table"
    _, elsewhere = continue_run(place, [*words, f"runs={tmp_path}/elsewhere"])
    assert elsewhere.config.exists()
    publish_config(store, config)
    kept = json.loads(store.read("config.json"))
    assert kept["storage"]["runs"] is None, "how a later machine reaches it is not published"
    with pytest.raises(ConfigError, match=r"cannot read 'k=3'; expected settings of storage"):
        continue_run(place, [*words, "k=3"])
    with pytest.raises(ConfigError, match="'s3://tables/up/no' is not the folder of a run"):
        continue_run("s3://tables/up/no", words)
    other = load_run_config(DEFAULT_CONFIG, ["name=mine", "seed=8", *words])
    open_run_folder(other.model_copy(update={"runs": tmp_path / "taken"}), "x")
    with pytest.raises(ConfigError, match=r"belongs to another config: seed is 8 there and 7 here"):
        continue_run(place, [*words, f"runs={tmp_path}/taken"])


def test_summary_reads_reports_from_s3(moto_port: int) -> None:
    words = f"storage.endpoint=http://127.0.0.1:{moto_port}"
    with pytest.raises(
        ConfigError, match=r"'s3://tables/none' is not the folder of a run: it has no report\.json"
    ):
        ensemble("summary", "s3://tables/none", words)
    with pytest.raises(ConfigError, match="no run is named"):
        ensemble("summary", words)


@pytest.mark.parametrize(
    "name",
    ["my config-1a2b3c4d", "données-1a2b3c4d", ".hidden-1a2b3c4d", "x" * 80, "a&b=c-1a2b3c4d"],
)
def test_a_run_on_s3_goes_on_under_whatever_name_it_was_begun(
    name: str, moto_port: int, tmp_path: Path
) -> None:
    place, words = f"s3://tables/names/{name}", [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    begun = load_run_config(DEFAULT_CONFIG, words)
    publish_config(open_store(place, begun.storage), begun)
    config, folder = continue_run(place, [*words, f"runs={tmp_path}"])
    assert (config.identity, folder.path) == (begun.identity, tmp_path / name)
    assert table_store(config, folder.path).url == f"{place}/table"
    again, same = continue_run(str(folder.path), [])
    assert (again.identity, same.path) == (begun.identity, folder.path)


@pytest.mark.parametrize("name", ["cache", "."])
def test_a_run_on_s3_is_not_taken_into_a_folder_that_is_no_runs(
    name: str, moto_port: int, tmp_path: Path
) -> None:
    place, words = f"s3://tables/names/{name}", [f"storage.endpoint=http://127.0.0.1:{moto_port}"]
    begun = load_run_config(DEFAULT_CONFIG, words)
    publish_config(open_store(place, begun.storage), begun)
    with pytest.raises(ConfigError, match=r"cannot make a folder '.*a name of its own"):
        continue_run(place, [*words, f"runs={tmp_path}"])


def test_the_folder_that_the_command_is_started_in_is_a_run_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}", "name=mine"])
    folder = open_run_folder(config, "x")
    monkeypatch.chdir(folder.path)
    assert continue_run(".", [])[1] == folder
    assert open_run(".").name == "mine"
    (folder.path / "table").mkdir()
    monkeypatch.chdir(folder.path / "table")
    assert continue_run("..", [])[1] == folder
