"""A service in this process: a predictor, and whether its files and answers are still as they should be."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ensemble import predictor
from ensemble.artifact.sums import check_sums
from ensemble.errors import ProjectError
from ensemble.images.inputs import Pixels
from ensemble.serving.service import About, Answer, answer_images
from ensemble.storage.settings import S3Config

_CHECKED_FOR_S = 10.0


class LocalService:
    """Answers with a predictor in this process.

    Args:
        place: The artifact, a folder or s3://bucket/prefix.
        name: Name that it is served under.
        device: Device that predicts, as torch names it.
        storage: How S3 is reached.
        trust_code: Accept members that run code of their own.

    Raises:
        ConfigError: There is no such device, or S3 cannot be reached.
        CheckpointError: A file of the artifact is missing or changed.
    """

    def __init__(
        self,
        place: Path | str,
        name: str,
        device: str = "cpu",
        storage: S3Config | None = None,
        *,
        trust_code: bool = False,
    ) -> None:
        self._predictor = predictor.load(place, storage, device=device, trust_code=trust_code)
        self._folder = self._predictor.artifact.folder
        members = tuple(member.name for member in self._predictor.members)
        self._about = About(name, self._predictor.classes, members)
        self._lock = threading.Lock()  # one forward pass at a time
        self._hashed: dict[str, tuple[int, int]] = {}
        self._problems: tuple[str, ...] = ()
        self._checked_at = -float("inf")

    @property
    def about(self) -> About:
        """What is served."""
        return self._about

    async def answer(self, images: Sequence[Pixels]) -> list[Answer | str]:
        """Answer each image, or say in a phrase why it cannot be predicted."""
        return await asyncio.to_thread(self._answer, images)

    async def problems(self) -> Sequence[str]:
        """Hash files that changed, replay the golden inputs; what was found holds for ten seconds."""
        return await asyncio.to_thread(self.check)

    def _answer(self, images: Sequence[Pixels]) -> list[Answer | str]:
        with self._lock:
            return answer_images(self._predictor, images)

    def check(self) -> tuple[str, ...]:
        """Do what `problems` does, in this thread."""
        with self._lock:
            if time.monotonic() - self._checked_at < _CHECKED_FOR_S:
                return self._problems
            try:
                stamps = _stamps(self._folder)
                # Hashing gigabytes for every probe would keep the disk busy with nothing else.
                if stamps != self._hashed or self._problems:
                    self._problems, self._hashed = check_sums(self._folder), stamps
                self._problems = self._problems or self._predictor.replay().problems
            except (ProjectError, OSError) as error:
                self._problems = (str(error),)
            self._checked_at = time.monotonic()
            return self._problems


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Give size and time of change of every file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
