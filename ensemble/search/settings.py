"""Settings of a weight search. Imports no array library: a wrong setting is reported at once."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ensemble.config import Config
from ensemble.outranking.combine import Combine

SearchKind = Literal[
    "auto", "best", "caruana", "forward", "likelihood", "line", "paper", "refine", "uniform"
]
Objective = Literal["top_k", "top_1", "nll"]
CostUnit = Literal["seconds", "parameters", "flops", "gpu_bytes", "depth"]
PredictorKey = Literal[
    "best", "uniform_all", "uniform_families", "uniform_selected", "paper", "ensemble"
]
"""What every report compares; `comparison` makes them."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SearchConfig(Config):
    """Which search finds the weights, which error it lowers, and what it may not exceed."""

    kind: SearchKind = "auto"
    """`paper`: greedy from the best member to the worst, weights 0.00 to 1.00; `line`: the same over
    all real weights; `forward`: every remaining member at each step; `caruana`: votes, a member may
    get several; `likelihood`: lowest NLL, and for `logs` what then lowers the errors; `refine`: one
    weight after the other, again and again, from `start`; `uniform`: all members alike; `best`: one
    member; `auto`: the one of these that does best on images it was not fitted on. Under `auto` an
    artifact answers with what is recommended, which may be simpler; a search that is named here answers
    itself."""

    combine: Combine | None = None
    """What weights are means of: `probabilities`, or `logs`, the members' log-probabilities, of which a
    softmax is taken. Unset: `probabilities`; `auto` tries both and takes what does better."""

    k: Annotated[int, Field(ge=1, le=10)] = 1
    """An image is an error when its label is not among the k highest scores."""

    objective: Objective = "top_k"
    """What is lowered: the top-k error, the top-1 error whatever k, or the NLL. `paper` and `line`
    take members in its order; `likelihood` always lowers the NLL."""

    max_members: PositiveInt | None = None
    """Most members that may get a weight above 0."""

    max_per_family: PositiveInt | None = None
    """Most members of one family (see `families`) that may get a weight above 0."""

    families: dict[str, str] = Field(default_factory=dict)
    """Family of each member, by name; its architecture where a job knows it. A member without one is
    a family of its own."""

    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Largest sum of the costs of all that may answer, members with a weight above 0 and sub-classifiers,
    in the unit of `costs`. In a unit of your own a sub-classifier costs what its base does."""

    cost: CostUnit = "seconds"
    """What members are charged where `costs` does not say: seconds an image, parameters,
    floating-point operations an image, peak GPU bytes, or depth, the weighted layers on the longest
    path of the network, as the run measured them. A run charges them for `max_cost` only: two runs
    measure other seconds, and must find the same without it."""

    costs: dict[str, Amount] = Field(default_factory=dict)
    """Cost of each member, by name, in a unit of your own that is the same for all."""

    time_limit_s: PositiveFloat | None = None
    """Seconds after which a search returns the best weights so far; two runs may then differ."""

    rounds: PositiveInt = 25
    """Number of votes that `caruana` gives."""

    initial: NonNegativeInt = 1
    """Number of best members that `caruana` gives one vote each to start from, if that helps."""

    bags: PositiveInt = 1
    """Number of random halves of the pool that `caruana` is repeated on, with all votes added; 1: once,
    on the whole pool."""

    seed: NonNegativeInt = 0
    """Seed of the bags of `caruana` and of the folds of `auto`."""

    start: dict[str, Amount] = Field(default_factory=dict)
    """Weights that `refine` starts from, by member, as those of last night; those of `paper` if empty."""

    @property
    def combines(self) -> tuple[Combine, ...]:
        """What means the outranking table is built for; reports always compare with `probabilities`."""
        is_mixture = self.combine == "probabilities" or (
            self.combine is None and self.kind != "auto"
        )
        return ("probabilities",) if is_mixture else ("probabilities", "logs")

    @property
    def error_k(self) -> int:
        """The k of the errors that are counted."""
        return 1 if self.objective == "top_1" else self.k
