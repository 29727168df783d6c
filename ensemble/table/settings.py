"""Settings of the logit table."""

from typing import Literal

from ensemble.config import Config


class TableConfig(Config):
    """How the logit table is stored."""

    dtype: Literal["float32", "float16"] = "float32"
    """How log-probabilities are stored; float16 halves the table, and rounds them to about 3 digits."""
