"""The README of the jobs: its tables hold every verb, exit code, file of a run, and setting."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import typer

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
