"""The README of the jobs: its tables hold every verb, exit code, file of a run, and setting."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.cli import app as cli
from jobs.settings import RunConfig
from jobs.stored_runs import layout

from .settings_table import settings_table

README = Path(__file__).parents[2] / "jobs" / "README.md"


def _first_cells(heading: str) -> list[str]:
    """Read the code in the first column of the table below a heading."""
    section = README.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def _verbs() -> Iterator[str]:
    """List every verb; the parts of `benchmark` are described beside the benchmarks."""
    for name, command in typer.main.get_group(app).commands.items():
        if name == "benchmark":
            yield "benchmark PART"
        elif isinstance(command, typer.core.TyperGroup):
            yield from (f"{name} {part}" for part in command.commands)
        else:
            yield name


def test_every_verb_has_a_row() -> None:
    assert sorted(_first_cells("The verbs")) == sorted(_verbs())


def test_every_exit_code_has_a_row() -> None:
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    assert {int(cell) for cell in _first_cells("Exit codes")} == codes | {0}


def test_everything_in_the_folder_of_a_run_has_a_row() -> None:
    names = [cell.rstrip("/") for cell in _first_cells("The folder of a run")]
    assert sorted(names) == sorted(layout.CONTENTS)


def test_every_setting_has_the_row_that_the_schema_says() -> None:
    """Rewrites the tables if the environment has UPDATE_README."""
    text = settings_table(RunConfig.model_json_schema())
    expected = re.sub(
        r"(<!-- settings: .*?-->\n).*?(<!-- end of settings -->)",
        lambda match: match[1] + text + match[2],
        README.read_text(),
        flags=re.DOTALL,
    )
    if os.environ.get("UPDATE_README"):
        README.write_text(expected)
    assert README.read_text() == expected


def test_predictions_made_elsewhere_are_imported_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = README.read_text().split("## Predictions made elsewhere\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (.*)$", section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = np.array([f"{name}.jpg" for name in "abcdefghijklmnopqrst"])
    labels = np.arange(len(ids)) % 2
    vit, resnet, mlp = (rng.dirichlet([1, 1], len(ids)) for _ in range(3))
    header, row, head_of_labels, row_of_labels = (line for line in lines[:7] if line[0] != "#")
    assert (row, row_of_labels) == ("a.jpg,0.9,0.1", "a.jpg,cat")
    rows = (f"{i},{p},{1 - p}" for i, p in zip(ids, rng.random(len(ids)), strict=True))
    Path("cnn.csv").write_text("\n".join([header, *rows]))
    rows = (f"{i},{('cat', 'dog')[label]}" for i, label in zip(ids, labels, strict=True))
    Path("labels.csv").write_text("\n".join([head_of_labels, *rows]))
    names = {"np": np, "vit": vit, "resnet": resnet, "mlp": mlp, "ids": ids, "labels": labels}
    for line in lines:
        if line.startswith("np."):
            exec(line, names)
    commands = [line for line in lines if line.startswith("ensemble ")]
    for command in commands:
        words = shlex.split(command)[1:]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert [command.split()[1] for command in commands] == ["table", "search"]
