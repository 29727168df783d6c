"""The document's part on trainings: what each epoch gave."""

from pydantic import NonNegativeFloat

from ensemble.config import Config


class CurveEpoch(Config):
    """Results of one epoch; those of training are in training mode and with augmentation."""

    loss_nats: float
    accuracy: NonNegativeFloat
    rate: NonNegativeFloat
    """Learning rate of the last step."""
    validation_loss_nats: float | None = None
    """Mean loss over the validation images; None where there are none."""
    validation_accuracy: NonNegativeFloat | None = None


class Curve(Config):
    """The epochs of one training."""

    name: str
    """Name of the member or sub-classifier."""
    epochs: tuple[CurveEpoch, ...]
