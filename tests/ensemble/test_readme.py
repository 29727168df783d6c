"""The library's README: its links lead somewhere, and its code runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ensemble"
README = (ROOT / "README.md").read_text()


def test_the_code_of_every_stage_runs_in_the_order_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    exec(compile(code, "ensemble/README.md", "exec"), {})
    assert re.search(r"errors of 300$", capsys.readouterr().out.strip())


def test_every_room_of_the_library_has_its_row() -> None:
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(re.findall(r"\[(\w+)\]\(\w+\)", README))
