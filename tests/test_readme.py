"""The README and those of the folders: links, commands, lengths, and the generated table of commands."""

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest
import typer
import yaml

from jobs.__main__ import app
from jobs.settings import RunConfig

ROOT = Path(__file__).parent.parent
READMES = sorted(path for path in ROOT.rglob("README.md") if ".pytest_cache" not in path.parts)
MOST_LINES, LONGEST_PROSE = 160, 120
# Tables and blocks are not prose; generated tables do not count as lines.
GENERATED = re.compile(r"<!-- (\w+): generated.*?-->\n(.*?)<!-- end of \1 -->", re.DOTALL)

each_readme = pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))


def _commands() -> dict[str, typer.main.TyperCommand]:
    return typer.main.get_group(app).commands


def _table_of_commands() -> str:
    groups = defaultdict(list)
    for name, command in _commands().items():
        groups[command.rich_help_panel].append((name, command.get_short_help_str(200)))
    rows = [
        f"| {group if not index else ''} | `ensemble {name}` | {text} |"
        for group, lines in groups.items()
        for index, (name, text) in enumerate(lines)
    ]
    return "\n".join(["| | command | what it does |", "|---|---|---|", *rows, ""])


@each_readme
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@each_readme
def test_every_command_that_is_shown_is_there(path: Path) -> None:
    shown = re.findall(r"^ {4}(?:.*&& )?ensemble (\w+)", path.read_text(), re.MULTILINE)
    assert set(shown) <= set(_commands())


@each_readme
def test_it_is_short_enough_to_be_read(path: Path) -> None:
    lines = GENERATED.sub("", path.read_text()).splitlines()
    assert len(lines) <= MOST_LINES
    prose = [line for line in lines if not line.startswith(("|", "    ", "![", "<!--", "- ["))]
    assert [line for line in prose if len(line) > LONGEST_PROSE] == []


def test_the_table_of_commands_is_what_the_command_says() -> None:
    readme = ROOT / "README.md"
    expected = re.sub(
        r"(<!-- commands: .*?-->\n).*?(<!-- end of commands -->)",
        lambda match: match[1] + _table_of_commands() + match[2],
        readme.read_text(),
        flags=re.DOTALL,
    )
    if os.environ.get("UPDATE_README"):
        readme.write_text(expected)
    assert readme.read_text() == expected


def test_the_config_of_ones_own_is_one_that_validates() -> None:
    (text,) = re.findall(
        r"    # mine.yaml\n((?:    .*\n|\n)+?)\n    ensemble init",
        (ROOT / "README.md").read_text(),
    )
    config = yaml.safe_load(re.sub(r"^    ", "", text, flags=re.MULTILINE))
    assert len(RunConfig.model_validate(config).members) == 2
