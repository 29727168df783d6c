import pytest

from jobs.cli.app import DEFAULT_CONFIG
from jobs.settings import load_run_config
from jobs.stored_runs.layout import (
    RunFolder,
    cache_in,
    costs_in,
    not_a_run,
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
