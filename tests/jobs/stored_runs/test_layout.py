import json
from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from jobs.cli.app import DEFAULT_CONFIG
from jobs.settings import RunConfig, load_run_config
from jobs.stored_runs.layout import (
    RunFolder,
    cache_in,
    costs_in,
    not_a_run,
    open_run_folder,
    parse_run_config,
    published_place,
    table_place,
    tables_folder,
)
from jobs.stored_runs.tables import table_store

RUNS, TABLES = "storage.runs=s3://bucket/runs", "storage.tables=s3://bucket/tables"


@pytest.mark.parametrize(
    ("words", "run", "place"),
    [
        ([], "here/mine", "here/mine/table"),
        ([], "here/mine/", "here/mine/table"),
        ([], "s3://other/mine", "s3://other/mine/table"),
        ([RUNS], "here/mine", "s3://bucket/runs/mine/table"),
        ([RUNS], "s3://moved/mine", "s3://moved/mine/table"),
        ([RUNS, TABLES], "here/mine", "s3://bucket/tables/mine/table"),
        ([RUNS, TABLES], "s3://moved/mine", "s3://bucket/tables/mine/table"),
    ],
)
def test_a_table_lies_where_the_storage_says_or_with_its_run(
    words: list[str], run: str, place: str
) -> None:
    config = load_run_config(DEFAULT_CONFIG, ["runs=here", *words])
    assert table_place(config, run) == place
    assert table_store(config, run).url == place


@pytest.mark.parametrize("words", [[], [RUNS], [TABLES], [RUNS, TABLES]])
def test_tables_of_runs_beside_each_other_lie_below_one_place(words: list[str]) -> None:
    config = load_run_config(DEFAULT_CONFIG, ["runs=here", *words])
    above = tables_folder(config)
    for name in ("mine", "other"):
        assert table_place(config, config.runs / name) == f"{above}/{name}/table"
        assert table_place(config, f"{above}/{name}") == f"{above}/{name}/table"


def test_a_run_is_published_below_its_prefix_or_nowhere() -> None:
    config = load_run_config(DEFAULT_CONFIG, ["runs=here"])
    folder = RunFolder(config.runs / "mine")
    assert published_place(config, folder) is None
    config = load_run_config(DEFAULT_CONFIG, ["runs=here", RUNS])
    assert published_place(config, folder) == "s3://bucket/runs/mine"


def test_what_runs_share_lies_in_one_absolute_folder() -> None:
    runs = load_run_config(DEFAULT_CONFIG, ["runs=here"]).runs
    assert cache_in(runs).is_absolute()
    assert costs_in(runs).parent == cache_in(runs)


def test_the_error_of_a_place_that_is_no_run_says_what_is_lacking_and_what_to_give() -> None:
    message = str(not_a_run("runs/x", "config.json"))
    assert "'runs/x' is not the folder of a run: it has no config.json" in message
    assert "Expected a folder such as" in message


def test_a_config_is_written_once_and_what_execution_needs_may_differ(tmp_path: Path) -> None:
    def opened(*words: str) -> RunFolder:
        config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}", "name=mine", *words])
        return open_run_folder(config, "x")

    folder = opened()
    first = folder.config.stat()
    assert opened("cluster.hosts=1") == folder
    assert folder.config.stat() == first
    with pytest.raises(
        ConfigError, match="belongs to another config: seed is 0 there and 1"
    ) as caught:
        opened("seed=1")
    assert "remove" not in str(caught.value), "the table lies in that folder"


@pytest.mark.parametrize(
    ("old", "new"), [(b'"seed": 0', b'"seed": 1'), (b"{", b"["), (b'"search"', b'"\xffearch"')]
)
def test_a_damaged_config_is_never_worth_the_table(tmp_path: Path, old: bytes, new: bytes) -> None:
    config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}", "name=mine"])
    folder = open_run_folder(config, "x")
    sound = folder.config.read_bytes()
    assert parse_run_config(sound, "x", {}) == config
    assert old in sound
    folder.config.write_bytes(sound.replace(old, new, 1))
    for read in (
        lambda: open_run_folder(config, "x"),
        lambda: parse_run_config(folder.config.read_bytes(), str(folder.config), {}),
    ):
        with pytest.raises(ConfigError, match=r"Remove this one file .* the table beside it stays"):
            read()
    folder.config.unlink()
    assert open_run_folder(config, "x").config.read_bytes() == sound


def test_a_config_of_an_earlier_version_or_changed_on_purpose_is_read(tmp_path: Path) -> None:
    config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}", "name=mine"])
    folder = open_run_folder(config, "x")
    settings = json.loads(folder.config.read_bytes())
    del settings["sha256"]
    # Settings that came later are at their defaults in a run of before.
    del settings["training"], settings["recipes"]["default"]["accumulation"]
    del settings["members"][0]["source"]["new_head"], settings["search"]["combine"]
    folder.config.write_text(json.dumps(settings))
    assert open_run_folder(config, "x") == folder
    assert parse_run_config(folder.config.read_bytes(), "x", {}) == config


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("my config", "my-config"),
        ("digits", "digits"),
        ("v1.2_x", "v1.2_x"),
        ("données d'été", "donn-es-d-t"),
        (".hidden", "hidden"),
        ("日本", "run"),
        ("x" * 200, "x" * 55),
        ("a\x1b[2J", "a-2J"),
    ],
)
def test_a_run_is_named_after_its_file_in_letters_that_a_name_may_have(
    stem: str, name: str, tmp_path: Path
) -> None:
    config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}"])
    folder = open_run_folder(config, stem)
    assert folder.path == tmp_path / f"{name}-{config.identity[:8]}"
    # What a cluster is sent.
    assert RunConfig.model_validate(config.model_dump() | {"name": folder.path.name})


def test_a_run_that_is_named_as_its_file_is_found_again(tmp_path: Path) -> None:
    config = load_run_config(DEFAULT_CONFIG, [f"runs={tmp_path}"])
    before = tmp_path / f"my config-{config.identity[:8]}"
    open_run_folder(config, "my config").path.rename(before)
    assert open_run_folder(config, "my config").path == before


def test_a_run_is_not_named_as_the_folder_that_runs_share() -> None:
    with pytest.raises(ConfigError, match=r"name: 'cache' is the folder of the weights"):
        load_run_config(DEFAULT_CONFIG, ["name=cache"])
