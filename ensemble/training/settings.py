"""What trainings may take of a machine, as settings; they change no weights. No torch."""

from pydantic import NonNegativeInt

from ensemble.config import Config


class TrainingConfig(Config):
    """What trainings may take of a machine. Changes no result."""

    disk_mb: NonNegativeInt = 20_000
    """Disk below the folder `runs` that trainings may take to keep photographs, decoded and resized to their short
    side, in MB. Photographs beyond it are decoded again in each epoch. The folder `cache/photographs` can be removed
    when no run is under way."""
