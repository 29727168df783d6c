from pathlib import Path

import pytest

from cluster.submission.token import read_token, tighten
from ensemble.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and an environment without one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_there_is_no_token_where_nobody_put_one() -> None:
    assert read_token() is None


def test_variable_comes_before_named_file_and_named_file_before_the_home_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(home / ".ray" / "auth_token", "of home\n")
    token = read_token()
    assert token
    assert token.value == "of home"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(_write(home / "named", "of file\n")))
    token = read_token()
    assert token
    assert (token.value, token.origin) == ("of file", str(home / "named"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of variable")
    token = read_token()
    assert token
    assert (token.value, token.origin) == ("of variable", "RAY_AUTH_TOKEN")


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of variable")
    assert "of variable" not in repr(read_token())


def test_a_file_that_is_named_and_missing_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "no such file"))
    with pytest.raises(ConfigError, match=r"no such file.*Set RAY_AUTH_TOKEN, or"):
        read_token()


def test_a_file_that_everybody_reads_is_its_owners_once_it_was_used(home: Path) -> None:
    path = _write(home / ".ray" / "auth_token", "secret")
    read_token()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_tight_stays_as_it_is(home: Path) -> None:
    path = _write(home / "token", "secret")
    path.chmod(0o400)
    tighten(path)
    assert path.stat().st_mode & 0o777 == 0o400


def test_a_mark_of_the_byte_order_is_no_part_of_the_token(home: Path) -> None:
    _write(home / ".ray" / "auth_token", "\ufeffabc\n")
    token = read_token()
    assert token
    assert token.value == "abc"


@pytest.mark.parametrize("text", ["a\nb", "ä", "a\0b"])
def test_a_token_with_a_character_that_no_header_takes_is_told(home: Path, text: str) -> None:
    _write(home / ".ray" / "auth_token", text)
    with pytest.raises(
        ConfigError, match=r"auth_token holds the character U\+00.*one line of ASCII"
    ):
        read_token()
