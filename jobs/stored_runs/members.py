"""The members of a finished run, with the weights that its table's predictions were computed with."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ensemble.checkpoints.header import read_metadata
from ensemble.checkpoints.load import load_member
from ensemble.errors import CheckpointError, ConfigError
from ensemble.evaluation.calibration import Temperature
from ensemble.files import sha256_of, write_atomic
from ensemble.members.member import Member, in_precision
from ensemble.members.source_settings import ImportedSource
from ensemble.views.settings import Views
from jobs.stored_runs.finished import FinishedRun
from jobs.stored_runs.layout import WEIGHTS, cache_in

_VIEWS: TypeAdapter[Views] = TypeAdapter(Views)


def load_members(
    run: FinishedRun, names: Iterable[str], temperatures: dict[str, Temperature]
) -> tuple[Member, ...]:
    """Load members by name, in the order of the run's columns; their weights are found by content.

    Args:
        run: The run.
        names: Names of the members.
        temperatures: Temperatures of members, by name; 1 where a member has none.

    Raises:
        ConfigError: The predictions were imported, or the weights of a member are not on this machine.
    """
    if any(isinstance(member.source, ImportedSource) for member in run.config.members):
        raise ConfigError(
            f"the predictions of {run.name!r} were imported, so there are no weights to save. Give --save with "
            "a run that `ensemble run` made."
        )
    wanted, identities = set(names), _identities(run)
    files = _Weights(run)
    members = []
    for column in run.columns:
        if column.member not in wanted:
            continue
        member = _load(column.member, identities[column.key], files, run)
        at = temperatures[column.member].value if column.member in temperatures else 1.0
        members.append(replace(member, temperature=at))
    return tuple(members)


def _identities(run: FinishedRun) -> dict[str, dict[str, Any]]:
    return {commit.column: commit.identity for commit in run.table.commits()}


def _load(name: str, identity: dict[str, Any], files: "_Weights", run: FinishedRun) -> Member:
    digest = str(identity["weights_sha256"])
    path = files.find(str(identity["architecture"]), digest)
    if path is None:
        raise ConfigError(
            f"the weights of {name!r} (sha256 {digest[:16]}…) are not in {files.cache} any more. `ensemble resume "
            f"{run.files.url}` makes or fetches them; then search again."
        )
    try:
        views = _VIEWS.validate_python(identity["views"])
    except ValidationError as error:
        raise CheckpointError(
            f"the table of {run.name!r} does not say the views of {name!r} ({error}). `ensemble resume` writes "
            "it anew."
        ) from error
    trust_code = run.config.weights.trust_code
    member = load_member(name, path, views, run.data_sha256, trust_code=trust_code)
    member = in_precision(member, identity.get("precision", "float32"))
    ours = {key: value for key, value in member.identity.items() if key != "libraries"}
    if ours != {key: identity.get(key) for key in ours}:
        raise ConfigError(
            f"the member {name!r} is not as it was when it was predicted. `ensemble resume {run.files.url}` "
            "predicts it again; then search again."
        )
    return member


class _Weights:
    """The files with weights that a run can have: the cache of its runs, and those kept at s3://."""

    def __init__(self, run: FinishedRun) -> None:
        self._run = run
        self.cache = cache_in(run.config.runs)
        self._digests: dict[Path, str] = {}

    def find(self, architecture: str, digest: str) -> Path | None:
        """Find a file by the SHA-256 of its bytes."""
        for path in self._candidates(architecture):
            if path not in self._digests:
                self._digests[path] = sha256_of(path)
            if self._digests[path] == digest:
                return path
        return self._fetch(digest)

    def _candidates(self, architecture: str) -> Iterator[Path]:
        folders = [self.cache]
        if not self._run.files.is_remote:
            # A run that was copied here without its cache still has what it selected.
            folders += [Path(self._run.files.url) / "ensemble" / "members"]
            folders += [Path(self._run.files.url).parent / self.cache.name]
        for folder in dict.fromkeys(folders):
            for path in sorted(folder.glob("*.safetensors")):
                try:
                    if read_metadata(path).get("architecture") == architecture:
                        yield path
                except CheckpointError:
                    continue  # damaged, or of another program: not what is looked for

    def _fetch(self, digest: str) -> Path | None:
        """Copy weights that lie with a run at s3://, where their names end with their digest."""
        files = self._run.files
        for key in files.keys(WEIGHTS):
            stem, _, end = Path(key).stem.rpartition("-")
            if digest.startswith(end) and end:
                path = self.cache / f"{stem}{Path(key).suffix}"
                content = files.read(key)
                write_atomic(path, content)
                if sha256_of(path) == digest:
                    return path
        return None
