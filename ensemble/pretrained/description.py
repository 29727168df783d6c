"""The description of a source: all that is known of it before its weights are fetched."""

from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import CheckpointError
from ensemble.members.settings import Preprocessing, Reference
from ensemble.members.source_settings import WeightsConfig
from ensemble.pretrained.published_file import PublishedFile, check_sha256, fetch, find


@dataclass(frozen=True)
class Description:
    """The description of a source without its weights.

    Attributes:
        architecture: A name for `models.build`, or the kind of a program (onnx, pt2).
        num_outputs: Number of logits; none if only the file tells.
        preprocessing: Preprocessing that is published with the weights; none if there is none.
        file: File of the weights: published, local, or at s3://bucket/key, which is fetched before a
            member is imported; none if there is no file, as for a factory.
        sha256: SHA-256 that a local file must have, or its first digits.
        reference: Error that is published with the weights.
    """

    architecture: str
    num_outputs: int | None = None
    preprocessing: Preprocessing | None = None
    file: PublishedFile | Path | str | None = None
    sha256: str | None = None
    reference: Reference | None = None

    def is_present(self, weights: WeightsConfig) -> bool:
        """Tell whether the file is on this machine; nothing is downloaded."""
        if isinstance(self.file, PublishedFile):
            return find(self.file, weights) is not None
        return self.file is None or (isinstance(self.file, Path) and self.file.is_file())

    @property
    def pinned(self) -> str | None:
        """SHA-256 that the file must have, or its first digits; none if any file is accepted."""
        return self.file.sha256 if isinstance(self.file, PublishedFile) else self.sha256

    def fetch(self, weights: WeightsConfig) -> Path | None:
        """Fetch the file to this machine, and check its digest.

        Raises:
            CheckpointError: The file cannot be fetched, or has another digest.
        """
        if isinstance(self.file, PublishedFile):
            return fetch(self.file, weights)
        if isinstance(self.file, str):
            raise CheckpointError(
                f"{self.file}: is not on this machine. `ensemble run` and `ensemble doctor` fetch it; for "
                "anything else copy it here."
            )
        if self.file is not None and not self.file.is_file():
            reason = "it is no file" if self.file.exists() else "there is no such file"
            raise CheckpointError(
                f"{self.file}: cannot be read ({reason}). Correct the path of the member's source."
            )
        if self.file is not None and self.sha256:
            check_sha256(self.file, self.sha256)
        return self.file
