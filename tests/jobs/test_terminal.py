"""Names and ids of strangers on a terminal."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from jobs.console import open_console
from jobs.terminal import echo, printable

from .conftest import Command

ESCAPES = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "\r",
    "\x08",
    "\x7f",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_sequence_that_a_terminal_obeys_is_shown_and_not_sent(
    escape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    echo(f"a{escape}b")
    open_console().print(Text(f"c{escape}d"))
    table = Table(title=f"t{escape}")
    table.add_column(f"h{escape}")
    table.add_row(f"e{escape}f")
    open_console().print(table)
    out = capsys.readouterr().out
    assert escape[0] not in out
    assert f"a{ascii(escape[0])[1:-1]}" in out


@given(st.text())
def test_what_is_printable_has_no_control_character_and_is_printed_once_as_it_is(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) <= 0x9F for c in shown)
    shown.encode()
    assert printable(shown) == shown


def test_words_of_every_language_stay() -> None:
    assert printable("Ärger, 猫, кошка, بقرة\n\tβ") == "Ärger, 猫, кошка, بقرة\n\tβ"


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    echo(os.fsdecode(b"caf\xe9"))
    assert capsys.readouterr().out == "caf\\udce9\n"


def test_colours_of_our_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    open_console().print("[red]x[/red]\x1b[2J")
    assert "\x1b[31mx" in sys.stdout.getvalue()
    assert "\x1b[2J" not in sys.stdout.getvalue()


def test_no_verb_sends_an_escape_sequence_that_a_file_or_a_word_holds(
    command_here: Command, tmp_path: Path
) -> None:
    evil = "e\x1b[2J\u202e"
    folder = tmp_path / evil
    folder.mkdir()
    for name in ("config.json", "progress.json", "report.json"):
        (folder / name).write_text(json.dumps({evil: evil}))
    (tmp_path / "pool.yaml").write_text(
        f'{{"members": [{{"name": "{evil.encode("unicode_escape").decode()}"}}]}}'
    )
    for words in (
        ("status", folder),
        ("resume", folder),
        ("search", folder),
        ("summary", folder),
        ("table", "show", folder),
        ("table", "diff", folder, folder),
        ("table", "repair", folder),
        ("table", "gc", folder),
        ("table", "export", folder, "--out", "x.npz"),
        ("subclassifiers", "plan", folder),
        ("validate", f"{evil}.yaml"),
        ("validate", f"members.0.name={evil}"),
        ("members", tmp_path / "pool.yaml"),
    ):
        done = command_here(*words, cwd=tmp_path)
        assert done.returncode in (1, 2), (words, done.stdout)
        assert not set("\x1b\u202e") & set(done.stdout + done.stderr), words
        assert "Traceback" not in done.stderr, done.stderr
