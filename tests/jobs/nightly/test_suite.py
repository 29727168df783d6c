"""The settings of a suite: what is refused, with which words, and where relative paths start."""

import os
from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from jobs.nightly.job import parse_age, parse_date
from jobs.nightly.suite import in_folder_of, load_suite

ROW = "rows:\n  - {name: a, artifact: deployed, images: {kind: digits}%s}\n"


def _load(folder: Path, text: str) -> None:
    path = folder / "nightly.yaml"
    path.write_text(text)
    load_suite(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: []\n", "rows: "),
        ("rows:\n  - {name: a}\n", "give `artifact`, the deployed ensemble, or `config`"),
        ("rows:\n  - {name: a, artifact: b}\n", "artifact needs `images` to be judged on"),
        (ROW % ", gates: [{metric: accuracy, min_effect: 1}]", "gates.0.metric"),
        (ROW % ", gates: [{metric: nll, min_effect: 0}]", "more than 0"),
        (ROW % ", gate: []", "no such setting. Did you mean 'gates'"),
        (
            ROW % ", gates: [{metric: nll, min_effect: 1}, {metric: nll, min_effect: 2}]",
            "a metric stands twice among nll, nll",
        ),
        (ROW % "" + "webhook: file:///etc/passwd\n", "webhook"),
        (ROW % "" + "folder: s3:/bucket\n", "is no place of S3"),
        (ROW % ", config: missing.yaml", "cannot read the config"),
        (
            ROW % "" + "  - {name: a, artifact: b, images: {kind: digits}}\n",
            "a name stands twice among a, a",
        ),
    ],
)
def test_a_wrong_suite_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        _load(tmp_path, text)


def test_a_suite_is_named_after_its_file_and_writes_out_its_runs(
    tmp_path: Path, tiny_config: Path
) -> None:
    path = tmp_path / "every night.yaml"
    path.write_text(f"rows:\n  - {{name: a, config: {tiny_config}}}\n")
    suite = load_suite(path, ["false_alarms_per_year=2"])
    assert suite.name == "every-night"
    assert suite.rows[0].run is not None
    assert suite.rows[0].config is None
    # As it travels to a cluster.
    again = tmp_path / "suite.json"
    again.write_text(suite.model_dump_json(exclude_unset=True))
    assert load_suite(again) == suite


def test_relative_paths_start_at_the_suites_file(tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(ROW % "")
    here = Path.cwd()
    with in_folder_of(tmp_path / "nightly.yaml") as path:
        assert load_suite(path).folder == str(tmp_path / "nightly")
        assert os.getcwd() == str(tmp_path)
    assert Path.cwd() == here


@pytest.mark.parametrize("text", ["26", "h", "-1h", "1y", "", "nanh"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no age; expected a number with m, h or d"):
        parse_age(text)


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'2026-02-31' is no date .* expected one as"):
        parse_date("2026-02-31")
