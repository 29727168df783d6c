"""Settings of the sub-classifiers. No torch."""

from typing import Annotated

from pydantic import Field

from ensemble.config import Config


class SubclassifiersConfig(Config):
    """Label clusters, the fine-tuning of one network for each, and the gate before them."""

    num_clusters: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        2,
        3,
        4,
    )
    """Numbers of label clusters (S) to try; the one with the fewest errors on the search split stays."""
    recipe: str = "default"
    """A name of the config's `recipes`: how sub-classifiers are fine-tuned."""
