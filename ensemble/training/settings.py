"""What trainings may take of a machine, as settings; they change no weights. No torch."""

from pydantic import NonNegativeInt, PositiveFloat

from ensemble.config import Config


class TrainingConfig(Config):
    """What trainings may take of a machine. Changes no result."""

    disk_mb: NonNegativeInt = 20_000
    """Disk below the folder `runs` that trainings may take to keep photographs, decoded and resized to their short
    side, in MB. Photographs beyond it are decoded again in each epoch. The folder `cache/photographs` can be removed
    when no run is under way."""
    checkpoint_s: PositiveFloat = 60.0
    """Seconds after which a training writes its state again, so that a killed one goes on from there and not from its
    last epoch. On a CPU it ends with the same weights, bit for bit."""
