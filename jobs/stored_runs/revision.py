"""Which code a run is made with: what git says of the checkout, or what a submission shipped in its place."""

import subprocess
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from ensemble.config import Config
from ensemble.errors import DataError

PACKAGES = ("ensemble", "cluster", "jobs")

_ROOT = Path(__file__).parents[2]
FILE_NAME = "revision.json"


class Revision(Config):
    """The commit that the code is of."""

    git_commit: str | None = None
    """Nothing where it was installed without git."""
    git_dirty: bool | None = None
    """Whether the checkout had changes that are not committed."""


def read_revision() -> Revision:
    """The revision of the code that runs.

    Raises:
        DataError: What was shipped beside the code does not tell it.
    """
    shipped = _ROOT / FILE_NAME
    if shipped.exists():
        try:
            return Revision.model_validate_json(shipped.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise DataError(f"{shipped} does not tell a revision. Submit the run again.") from error
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return Revision()
    return Revision(git_commit=commit, git_dirty=bool(_git("status", "--porcelain")))


def describe_version() -> str:
    """Name the version of the project and the commit that the code is of, in one line."""
    revision = read_revision()
    text = f"ensemble {version('ensemble-as-a-job')}"
    if revision.git_commit:
        text += f", commit {revision.git_commit[:12]}"
        text += " with changes that are not committed" if revision.git_dirty else ""
    return text


def _git(*words: str) -> str | None:
    if not (_ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
