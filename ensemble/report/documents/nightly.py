"""The records of nightly evaluation: one a night, and one for whatever a person decided; never changed once written.

Error rates, losses and the ECE are fractions, the NLL is in nats, time is in seconds an image. All that
pages show, and every baseline and alert, follows from the records alone.
"""

import secrets
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter

from ensemble.artifact.document import ArtifactDocument
from ensemble.config import Config
from ensemble.nightly.verdict import Verdict
from ensemble.report.documents.weights import Base64Png, Sha256

BaselineName = Literal["accepted", "anchor"]


class Conditions(Config):
    """Under which conditions a row was judged: what must agree for figures to be comparable."""

    images: str
    """SHA-256 of the ids of the images, in order."""
    labels: str
    """SHA-256 of their labels."""
    classes: str
    """SHA-256 of the names of the classes, in order."""
    decoder: str
    """Identity of the source of the images, with its decoder."""
    precision: str
    """Precision of each part that is not float32."""
    device: str
    """Kinds of device that computed the predictions."""
    driver: str
    """Version of the GPU's driver; empty on CPUs."""
    libraries: dict[str, str]
    """Versions of the libraries that can change a forward pass."""
    commit: str | None
    """Commit of the code."""
    dirty: bool | None
    """Whether the code had changes that are not committed."""
    config: str
    """SHA-256 of the row's settings that results depend on."""
    seeds: str
    """Seeds with which image sets are drawn."""


class Part(Config):
    """A network of the deployed ensemble, as it stands in the table."""

    column: str
    """Identity of its predictions."""
    identity: dict[str, Any]
    """Everything that the identity is made of."""


class Figure(Config):
    """A figure of tonight."""

    metric: str
    """Name of the metric."""
    value: FiniteFloat
    """The figure."""
    low: FiniteFloat | None = None
    """Lower end of its 95 % interval, where there is one."""
    high: FiniteFloat | None = None
    """Upper end of its 95 % interval."""


class Comparison(Config):
    """One figure of tonight against that of a baseline."""

    metric: str
    """Name of the metric."""
    is_gate: bool
    """Whether a regression alarms; otherwise the metric is only watched."""
    baseline: BaselineName
    """Which baseline."""
    baseline_record: PositiveInt
    """Number of the record with the baseline."""
    verdict: Verdict
    """The verdict."""
    min_effect: FiniteFloat
    """The least loss that matters."""
    loss: FiniteFloat | None = None
    """Tonight's figure less the baseline's; None where they cannot be compared."""
    low: FiniteFloat | None = None
    """Lower bound of the loss, one-sided at 95 %."""
    high: FiniteFloat | None = None
    """Upper bound of the loss, one-sided at 95 %."""
    p: FiniteFloat | None = None
    """One-sided p-value of no loss; None where nothing was tested."""
    newly_wrong: NonNegativeInt | None = None
    """Images that only tonight errs on."""
    newly_right: NonNegativeInt | None = None
    """Images that only the baseline errs on."""
    num_images_needed: PositiveInt | None = None
    """Images that would decide an inconclusive comparison."""
    reason: str = ""
    """What differs, where figures drifted or cannot be compared."""
    part: str = ""
    """Name of the member that is compared with itself; empty for a figure of the ensemble."""

    @property
    def label(self) -> str:
        """The metric, and the member that it is of."""
        return f"{self.metric} of {self.part}" if self.part else self.metric


class BlameLine(Config):
    """What one change did to a figure that got worse."""

    part: str
    """Name of the member or sub-classifier, or `weights`."""
    recovered: FiniteFloat
    """How much lower the figure is with the old part in place."""
    share: FiniteFloat
    """The same as a share of the whole change."""
    changes: tuple[str, ...] = ()
    """What differs in the part's identity, old -> new."""


class ClassLine(Config):
    """What happened to the images of one class."""

    name: str
    images: NonNegativeInt
    newly_wrong: NonNegativeInt
    newly_right: NonNegativeInt


class ChangedImage(Config):
    """An image whose error came or went."""

    image_id: str
    label: str
    before: str
    """Answer of the baseline."""
    after: str
    """Answer of tonight."""
    is_wrong: bool
    """Whether tonight's answer is the wrong one."""
    png_base64: Base64Png | None = None


class Explanation(Config):
    """Why a row's figures differ from those of the accepted baseline."""

    metric: str
    """The metric that is explained."""
    forward_passes: NonNegativeInt = 0
    """Forward passes that the explanation took: none, because the table holds old and new columns."""
    blame: tuple[BlameLine, ...] = ()
    classes: tuple[ClassLine, ...] = ()
    clusters: tuple[ClassLine, ...] = ()
    """The same of the label clusters of the sub-classifiers, each named by its classes."""
    images: tuple[ChangedImage, ...] = ()


class WorseMemberLine(Config):
    """A changed member that does worse by itself than it did at the baseline."""

    name: str
    baseline_record: PositiveInt
    """Number of the record with the baseline."""
    loss: FiniteFloat
    """Its top-1 error tonight less that of the baseline."""
    p: FiniteFloat
    """One-sided p-value of no loss over all classes."""
    newly_wrong: NonNegativeInt
    newly_right: NonNegativeInt
    classes: tuple[ClassLine, ...] = ()
    """The classes on which it errs more by more than chance."""


class StreamState(Config):
    """The e-detector of a row whose images are fresh every night."""

    reference: str
    """Identity of the reference that the deployed ensemble is compared with."""
    average_run_length: FiniteFloat
    """Least mean number of discordant images until a false alarm."""
    evidence: tuple[FiniteFloat, ...]
    images: NonNegativeInt
    """Number of discordant images so far."""
    alarmed_at: NonNegativeInt | None = None
    """Number of discordant images at the alarm; None while there is none."""


class Canary(Config):
    """A network made bad on purpose: it must be flagged, or the night is worth nothing."""

    member: str
    images: PositiveInt
    is_flagged: bool
    """Whether the night's own rule called it regressed."""
    errors: NonNegativeInt
    """Errors of the accepted baseline on these images."""
    errors_broken: NonNegativeInt
    """Errors with its classes moved on by one."""
    largest_difference: FiniteFloat
    """Largest difference of a probability between tonight's forward passes and the table's."""
    flips: NonNegativeInt
    """Answers that differ between tonight's forward passes and the table's."""
    is_same_device: bool
    """Whether the table's rows are of the kind of device that predicted tonight."""
    seconds_per_image: FiniteFloat
    forward_passes: NonNegativeInt

    @property
    def has_drifted(self) -> bool:
        """Whether the same network on the same kind of device gives other numbers than it did."""
        return self.is_same_device and (self.flips > 0 or self.largest_difference > 1e-4)


class RowResult(Config):
    """One row of a suite on one night."""

    name: str
    owner: str = ""
    error: str = ""
    """Why the row could not be judged; empty where it was."""
    document: ArtifactDocument | None = None
    """The deployed ensemble."""
    parts: dict[str, Part] = Field(default_factory=dict)
    conditions: Conditions | None = None
    identity: str = ""
    """Identity of all that the answers depend on, but the images."""
    outcomes: Sha256 | None = None
    """SHA-256 of the outcomes, which lie in outcomes/ under this name."""
    n: NonNegativeInt = 0
    """Number of images of the watch set."""
    figures: tuple[Figure, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    explanation: Explanation | None = None
    worse_members: tuple[WorseMemberLine, ...] = ()
    """Changed members that do worse by themselves, whatever the ensemble makes of it; `member_error` is their gate."""
    stream: StreamState | None = None
    canary: Canary | None = None
    forward_passes: NonNegativeInt = 0
    """Forward passes of the ensemble's networks, without the canary's."""
    seconds: FiniteFloat = 0.0
    proposal: str = ""
    """What re-selecting weights on tonight's columns would give, in a sentence."""
    notes: tuple[str, ...] = ()

    @property
    def is_worthless(self) -> bool:
        """Whether a canary that must be flagged was not, so that no verdict of the row means anything."""
        return self.canary is not None and not self.canary.is_flagged

    def figure(self, metric: str) -> Figure | None:
        """Find a figure of the row by its metric."""
        return next((figure for figure in self.figures if figure.metric == metric), None)


class _Record(Config):
    version: Literal[1] = 1
    attempt: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Random digits that tell a writer's own record, when the reply was lost, from that of another."""
    written_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class Night(_Record):
    """One night."""

    kind: Literal["night"] = "night"
    suite: str
    date: date
    """Date that the night is of, in the zone of whoever scheduled it."""
    is_smoke: bool = False
    """Whether this was a trial with few images, which counts for no baseline and no alert."""
    level: FiniteFloat
    """Chance of a false alarm that this night took of the year's budget."""
    num_compared: NonNegativeInt
    """Number of comparisons that were tested."""
    rows: tuple[RowResult, ...]
    host: str = ""
    seconds: FiniteFloat = 0.0

    def row(self, name: str) -> RowResult | None:
        """Find a row by its name."""
        return next((row for row in self.rows if row.name == name), None)


class VaultLine(Config):
    """What an opening of the vault showed of a row."""

    row: str
    n: PositiveInt
    outcomes: Sha256
    identity: str
    conditions: Conditions
    figures: tuple[Figure, ...]
    comparison: Comparison | None = None
    """Against the vault of the accepted baseline; None at the first opening."""


class Accept(_Record):
    """Somebody made a night the baseline."""

    kind: Literal["accept"] = "accept"
    night: PositiveInt
    """Number of the night's record."""
    rows: tuple[str, ...]
    """Names of the rows whose baseline moved."""
    is_anchor: bool = False
    """Whether the anchor moved, too."""
    reason: str = ""
    by: str = ""
    cumulative_loss: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Loss against the anchor, by row and metric, as `row/metric`."""
    vault: tuple[VaultLine, ...] = ()
    """What the vault showed; each line is one opening."""


class Acknowledge(_Record):
    """Somebody knows of an alert."""

    kind: Literal["acknowledge"] = "acknowledge"
    alert: str
    """Key of the alert."""
    until: date
    """The last date on which the alert does not count."""
    reason: str = ""
    by: str = ""


Record = Night | Accept | Acknowledge
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def encode_record(record: Record) -> bytes:
    """Encode a record as the bytes of its file."""
    return (record.model_dump_json() + "\n").encode()


def decode_record(content: bytes) -> Record:
    """Decode a record.

    Raises:
        ValueError: The bytes are not those of a record.
    """
    return _RECORD.validate_json(content)
