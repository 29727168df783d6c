"""What a weighted mean is taken of. Imports no array library: settings name it."""

from typing import Literal

Combine = Literal["probabilities", "logs"]
"""`probabilities`: the mean of the members' probabilities, a mixture. `logs`: the mean of their
logarithms, then a softmax: a product of experts, the log-linear pool. One sure "no" of a member counts
for more in it than in a mixture."""
