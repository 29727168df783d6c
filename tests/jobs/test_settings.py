"""Words such as `a.b=value` have one reader; `search` and `subclassifiers plan` are in test_search."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.config import load
from ensemble.errors import ConfigError
from jobs.benchmark.report import read_config
from jobs.benchmark.views import ViewsBenchmarkConfig
from jobs.doctor import examine
from jobs.members import describe_pool
from jobs.preflight import preflight
from jobs.settings import RunConfig
from jobs.stored_runs.open import storage_config

DIGITS = Path(__file__).parents[2] / "jobs" / "configs" / "digits.yaml"

READERS: dict[str, Callable[[str], object]] = {
    "run": lambda word: load(RunConfig, DIGITS, [word]),
    "members": lambda word: describe_pool("none", [word]),
    "doctor of a place": lambda word: examine("none", [word]),
    "doctor of a pool": lambda word: preflight("none", "none", [word], Console(), False),
    "benchmark": lambda word: read_config(ViewsBenchmarkConfig, [word], is_full=False),
    "table and resume": lambda word: storage_config([f"storage.{word}"]),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("x", r"cannot read the setting '(storage\.)?x'; expected key=value"),
        ("x=[1", r"the setting '(storage\.)?x=\[1' is not YAML"),
        ("x={a: 1, a: 2}", r"a: 2}': line 1: the key 'a' stands twice; keep one of them"),
        ("x=[&a [1], *a]", r"\*a\]': line 1: the YAML alias \*a is not accepted"),
        ("x=" + "[" * 40, "nested deeper than 32 levels"),
        ("x=1", r"x: no such setting\."),
    ],
)
def test_every_verb_reads_its_settings_by_the_same_rules(
    read: Callable[[str], object], word: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(word)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("{kind: folder, path: x, kind: parquet}", "the key 'kind' stands twice"),
        ("{kind: folder, path: &a x, max_pixels: *a}", r"the YAML alias \*a is not accepted"),
        ("{kind: folder", r"--images '{kind: folder' is not YAML"),
        ("{kind: folder, pth: x}", "Did you mean 'path'"),
    ],
)
def test_a_source_of_images_on_the_command_line_is_read_by_the_rules_of_a_file(
    images: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        preflight("imagenet13-public", images, [], Console(), as_json=False)


def test_a_run_that_was_begun_before_there_were_sets_goes_on() -> None:
    run = load(RunConfig, DIGITS, [])
    # The identity of this run's settings as they were then.
    older = run.model_dump(mode="json")
    del older["report"]["coverage"]
    assert RunConfig.model_validate(older).identity == run.identity
    others = [load(RunConfig, DIGITS, [f"report.coverage={value}"]) for value in ("0.8", "null")]
    assert len({run.identity, *(other.identity for other in others)}) == 3


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "nan"])
def test_a_coverage_is_a_probability(value: str) -> None:
    with pytest.raises(ConfigError, match="coverage"):
        load(RunConfig, DIGITS, [f"report.coverage={value}"])
