"""What every verb has alike: help, version, and how much it prints."""

import logging
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from ensemble.errors import ConfigError
from jobs import terminal
from jobs.__main__ import app
from jobs.cli.app import unify
from jobs.console import open_console
from jobs.terminal import echo


def _verbs(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    parts = getattr(command, "commands", None)
    if parts is None:
        yield words
        return
    for name, part in parts.items():
        yield from _verbs(part, (*words, name))


VERBS = tuple(_verbs(typer.main.get_command(app)))


def test_every_verb_takes_h_q_and_v() -> None:
    lacking = []
    for words in VERBS:
        done = CliRunner().invoke(app, [*words, "-h"], env={"COLUMNS": "200"})
        options = ("--help", "-h", "--quiet", "-q", "--verbose", "-v")
        if done.exit_code or not all(option in done.output for option in options):
            lacking.append(words)
    assert lacking == []
    assert ("run",) in VERBS
    assert ("table", "import") in VERBS


def test_the_version_names_the_project() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("ensemble 0.")


def test_a_completion_can_be_installed() -> None:
    done = CliRunner().invoke(app, ["-h"], env={"COLUMNS": "200"})
    assert "--install-completion" in done.output


def _call(*words: str, code: int = 0) -> None:
    small = typer.Typer()

    @small.command()
    def verb() -> None:
        echo("first")
        open_console().print("second")
        open_console(stderr=True).print("progress")
        logging.getLogger("cluster.pool").info("told")
        logging.getLogger("cluster.pool").warning("warned")
        echo("third\nwith two lines")
        if code:
            raise typer.Exit(code)

    unify(small)
    small(list(words), standalone_mode=False)


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    yield
    with terminal.verbosity(quiet=False, verbose=False):
        logging.getLogger().setLevel(logging.WARNING)


@pytest.mark.parametrize("code", [0, 1])
def test_a_quiet_verb_prints_only_what_it_printed_last(
    code: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _call("-q", code=code)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("third\nwith two lines\n", "")
    assert caplog.messages == []


def test_a_verb_prints_all_and_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _call()
    printed = capsys.readouterr()
    assert printed.out == "first\nsecond\nthird\nwith two lines\n"
    assert printed.err == "progress\n"
    assert caplog.messages == ["warned"]


def test_a_verbose_verb_prints_what_the_library_logs(caplog: pytest.LogCaptureFixture) -> None:
    _call("--verbose")
    assert caplog.messages == ["told", "warned"]


def test_quiet_and_verbose_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="--quiet and --verbose are opposites"):
        _call("-q", "-v")
