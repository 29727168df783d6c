"""Trained weights kept with a run at s3://, so that another machine that resumes it trains none again."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ensemble.errors import CheckpointError
from ensemble.files import write_atomic
from ensemble.storage.store import Store
from jobs.stored_runs.layout import WEIGHTS

_DIGEST_CHARS, _ATTEMPTS = 16, 3


class KeptWeights:
    """Checkpoints below a run's prefix, each under its own name and the digest of its bytes.

    The weights belong to the run, and not to all runs: the columns of the run's table are of exactly
    these bytes, and another machine may train other bytes under the same name.

    Args:
        files: Store of the run's folder; no other run writes it meanwhile.
    """

    def __init__(self, files: Store) -> None:
        self._files = files
        stems = ((PurePosixPath(key).stem, key) for key in files.keys(WEIGHTS))
        self._keys = {stem.rpartition("-")[0]: key for stem, key in stems}

    def bring(self, checkpoints: Iterable[Path]) -> None:
        """Fetch the run's checkpoints where files here differ; upload those that the run lacks.

        Args:
            checkpoints: Paths on this machine, whether or not there is a file yet.

        Raises:
            CheckpointError: A checkpoint of the run is damaged.
        """
        for path in checkpoints:
            if path.stem not in self._keys:
                if path.exists():
                    self.keep(path)
            elif not path.exists() or _key(path, path.read_bytes()) != self._keys[path.stem]:
                self._fetch(path)

    def keep(self, path: Path) -> None:
        """Upload a checkpoint that was trained here."""
        data = path.read_bytes()
        key = _key(path, data)
        self._files.replace(key, data)
        self._keys[path.stem] = key

    def _fetch(self, path: Path) -> None:
        key = self._keys[path.stem]
        # Bytes from far away may have been damaged under way only.
        reads = (self._files.read(key) for _ in range(_ATTEMPTS))
        data = next((data for data in reads if _key(path, data) == key), None)
        if data is None:
            raise CheckpointError(
                f"the weights {self._files.url}/{key} are damaged: their sha256 is not the one in their "
                "name. Remove that object, so that the run trains them again."
            )
        write_atomic(path, data)


def _key(path: Path, data: bytes) -> str:
    return f"{WEIGHTS}/{path.stem}-{sha256(data).hexdigest()[:_DIGEST_CHARS]}{path.suffix}"
