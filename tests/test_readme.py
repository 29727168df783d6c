import re
from pathlib import Path

import pytest
import typer

from jobs.__main__ import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("name", sorted(typer.main.get_group(app).commands))
def test_every_command_is_shown(name: str) -> None:
    assert f"ensemble {name}" in README


def test_it_stays_under_200_lines() -> None:
    assert len(README.splitlines()) < 200
