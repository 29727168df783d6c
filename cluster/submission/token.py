"""The token of a Ray cluster: where it is kept, and that other users cannot read its file."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.errors import ConfigError

WHERE_TO_PUT_IT = (
    "Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it, or put it into "
    "~/.ray/auth_token."
)


@dataclass(frozen=True)
class Token:
    """A token and where it was found.

    Attributes:
        value: The token, which no message may contain.
        origin: Name of the variable or path of the file, for messages.
    """

    value: str = field(repr=False)
    origin: str


def token_file() -> Path:
    """Return the path of the file in which Ray keeps the token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()


def read_token() -> Token | None:
    """Find the token where Ray itself looks for it, in the same order; none if there is none.

    Raises:
        ConfigError: The token's file cannot be read, or the token holds what no token can.
    """
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return _checked(value, "RAY_AUTH_TOKEN")
    path = token_file()
    if not path.exists() and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        return None
    try:
        # Some editors begin a file with a mark of its byte order.
        value = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the token of the cluster from {str(path)!r}: {error}. {WHERE_TO_PUT_IT}"
        ) from error
    tighten(path)
    return _checked(value, str(path)) if value else None


def _checked(value: str, origin: str) -> Token:
    strange = [ord(character) for character in value if not " " <= character <= "~"]
    if strange:
        raise ConfigError(
            f"the token of {origin} holds the character U+{strange[0]:04X}, which no token has. "
            f"Expected one line of ASCII. {WHERE_TO_PUT_IT}"
        )
    return Token(value, origin)


def tighten(path: Path) -> None:
    """Make a token file readable by its owner only, because Ray writes it readable for everybody.

    A file that belongs to another user, as a mounted secret does, is left as it is.
    """
    if path.is_file() and is_open_to_others(path) and path.stat().st_uid == os.geteuid():
        path.chmod(0o600)


def is_open_to_others(path: Path) -> bool:
    """Tell whether another user of this machine may read a file."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
