"""A part of a bulk prediction: the images of one shard, and where their answers go."""

from dataclasses import dataclass

from ensemble.answers.settings import PartSettings
from ensemble.storage.settings import S3Config


@dataclass(frozen=True)
class PredictTask:
    """A part that an ensemble is to answer.

    Attributes:
        name: Name of the work in logs.
        artifact: Folder of the artifact, or s3://bucket/prefix; every worker must reach it.
        artifact_sha256: SHA-256 of the artifact's document, so that no worker takes another one.
        artifact_storage: How S3 is reached for the artifact.
        out: Folder of the answers, or s3://bucket/prefix; every worker must reach it.
        out_storage: How S3 is reached for the answers.
        key: Name of the part below `out`.
        image_ids: Ids of the images, in the order of the rows; what they are called in the part.
        keys: What the images are decoded by, in the same order; their ids if empty.
        settings: What the part holds.
        equal_bits: Give an image the same bits whatever images are predicted with it.
        trust_code: Accept members that run code of their own.
    """

    name: str
    artifact: str
    artifact_sha256: str
    artifact_storage: S3Config
    out: str
    out_storage: S3Config
    key: str
    image_ids: tuple[str, ...]
    settings: PartSettings
    keys: tuple[str, ...] = ()
    equal_bits: bool = False
    trust_code: bool = False

    @property
    def column(self) -> str:
        """Identity of the ensemble that answers."""
        return self.artifact_sha256[:16]
