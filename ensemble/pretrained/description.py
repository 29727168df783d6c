"""What is known of a source before its weights are there."""

from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import CheckpointError
from ensemble.members.settings import Preprocessing, Reference
from ensemble.members.source_settings import WeightsConfig
from ensemble.pretrained.published_file import PublishedFile, check_sha256, fetch, find


@dataclass(frozen=True)
class Description:
    """A source without its weights.

    Attributes:
        architecture: A name for `models.build`, or the kind of a program (onnx, pt2).
        num_outputs: Logits of the weights; none if only the file tells.
        preprocessing: That comes with the weights; none if nothing does.
        file: Published or local, or s3://bucket/key, which is fetched before a member is imported;
            none if there is no file (a factory).
        sha256: Of a local file, or its first digits.
        reference: Figures that come with the weights.
    """

    architecture: str
    num_outputs: int | None = None
    preprocessing: Preprocessing | None = None
    file: PublishedFile | Path | str | None = None
    sha256: str | None = None
    reference: Reference | None = None

    def is_present(self, weights: WeightsConfig) -> bool:
        """Whether its file is on this machine; nothing is downloaded."""
        if isinstance(self.file, PublishedFile):
            return find(self.file, weights) is not None
        return self.file is None or (isinstance(self.file, Path) and self.file.is_file())

    @property
    def pinned(self) -> str | None:
        """The digest that its file must have, or the first digits; none if none is known."""
        return self.file.sha256 if isinstance(self.file, PublishedFile) else self.sha256

    def fetch(self, weights: WeightsConfig) -> Path | None:
        """Its file, here and checked.

        Raises:
            CheckpointError: It is not to be had, or is another file.
        """
        if isinstance(self.file, PublishedFile):
            return fetch(self.file, weights)
        if isinstance(self.file, str):
            raise CheckpointError(
                f"{self.file}: is not on this machine. `ensemble run` and `ensemble doctor` fetch it; for "
                "anything else copy it here."
            )
        if self.file is not None and not self.file.is_file():
            raise CheckpointError(
                f"{self.file}: cannot be read (there is no such file). Correct the path of the member's "
                "source."
            )
        if self.file is not None and self.sha256:
            check_sha256(self.file, self.sha256)
        return self.file
