"""Settings of a weight search. Imports no array library: a wrong setting is reported at once."""

from typing import Annotated, Literal

from pydantic import Field

from ensemble.config import Config

SearchKind = Literal["paper", "uniform", "best"]


class SearchConfig(Config):
    """Which search finds the weights, and which error it lowers."""

    kind: SearchKind = "paper"
    """`paper`: greedy from the best member to the worst, weights 0.00 to 1.00; `uniform`: all
    members alike; `best`: one member."""

    k: Annotated[int, Field(ge=1, le=10)] = 1
    """An image is an error when its label is not among the k highest scores."""
