"""ensemble / table / settings: say here what this file is responsible for."""

from typing import Literal

from ensemble.config import Config


class TableConfig(Config):
    """How predictions are stored."""

    dtype: Literal["float32", "float16"] = "float32"
    """Half precision halves the table, and rounds log-probabilities to about 3 digits."""
