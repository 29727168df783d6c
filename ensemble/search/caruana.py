"""Ensemble selection with replacement: each round, the member whose vote lowers the loss most gets one.

Weights are votes. The start is the best of the prefixes of at most `initial` best members, one vote
each (sorted initialisation); what is returned is the best of all rounds. With bags, the whole is
repeated on random halves of the pool and the votes are added. Ties as in `forward`.

With each vote the score of a pair changes by the difference of one member. So a pair whose score lies
beyond the largest and smallest of these, times some votes, is decided for these votes whoever gets
them; only the others, and only on images that they can turn, are looked at.

Source: Caruana et al. 2004, sections 2.1 to 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Int32

from ensemble.search.config import SearchConfig
from ensemble.search.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.search.limits import Limits
from ensemble.search.order import by_objective
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.state import Loss, finish, late_note, loss


@dataclass(frozen=True, eq=False)
class _Problem:
    """One table with what every round needs of it."""

    table: OutrankingTable
    config: SearchConfig
    limits: Limits
    highest: Int32[np.ndarray, " pair"]
    lowest: Int32[np.ndarray, " pair"]
    true_probabilities: Float[np.ndarray, "member image"]
    counts: Int[np.ndarray, " image"]


@dataclass(frozen=True, eq=False)
class _Open:
    """The pairs and images that the next votes can still turn, whoever gets them.

    Attributes:
        pairs: Their indices in the table.
        differences: Of these pairs.
        images: Images that have such pairs, ascending.
        first: First pair of each image.
        least: Classes that outrank the label whatever comes, of each image.
        errors: Images that are errors whatever comes.
        votes_left: After so many votes all this is out of date.
    """

    pairs: Int[np.ndarray, " pair"]
    differences: Int32[np.ndarray, "member pair"]
    images: Int[np.ndarray, " image"]
    first: Int[np.ndarray, " image"]
    least: Int[np.ndarray, " image"]
    errors: int
    votes_left: int


class _Votes:
    """The votes of one bag, and the scores they make."""

    def __init__(self, problem: _Problem) -> None:
        self.table = problem.table
        self.problem = problem
        self.votes = np.zeros(self.table.num_members, dtype=np.int64)
        self.true_sum = np.zeros(self.table.num_images)
        self.is_broken = np.zeros(self.table.num_images, dtype=np.bool_)
        self._scores = np.array(self.table.bias)
        self._scored = np.zeros_like(self.votes)  # the votes that are in the scores
        self._open = self._open_for(1)
        self._open_scores = self._scores[self._open.pairs]

    def add(self, member: int) -> None:
        self.votes[member] += 1
        self.true_sum += self.problem.true_probabilities[member]
        if self.table.num_broken[member]:
            self.is_broken |= self.table.broken[:, member]
        left = self._open.votes_left - 1
        if left:
            self._open = replace(self._open, votes_left=left)
            self._open_scores += self._open.differences[member]
            return
        self._update_scores()
        # The more votes there are, the less can one more turn.
        self._open = self._open_for(1 + int(self.votes.sum()) // 2)
        self._open_scores = self._scores[self._open.pairs]

    def errors(self) -> Int[np.ndarray, " member"]:
        """Count the errors with one more vote for each member."""
        if self.table.num_broken.any():
            self._update_scores()
            return np.array([self._exact(member) for member in range(self.table.num_members)])
        opened, k = self._open, self.problem.config.error_k
        errors = np.full(self.table.num_members, opened.errors, dtype=np.int64)
        if len(opened.pairs):
            outranks = opened.differences > -self._open_scores
            more = np.add.reduceat(outranks.view(np.int8), opened.first, axis=1, dtype=np.int32)
            errors += (more + opened.least >= k) @ self.problem.counts[opened.images]
        return errors

    def nll(self, members: Sequence[int]) -> list[float]:
        """Give the NLL with one more vote for each of some members."""
        total, table = self.votes.sum() + 1, self.table
        nlls = []
        for member in members:
            average = (self.true_sum + self.problem.true_probabilities[member]) / total
            average[self.is_broken | table.broken[:, member]] = 0
            losses = -np.log(np.maximum(average, PROBABILITY_FLOOR))
            nlls.append(float(np.average(losses, weights=table.image_counts)))
        return nlls

    def _open_for(self, num_votes: int) -> _Open:
        """Find what so many votes can turn."""
        table, problem, k = self.table, self.problem, self.problem.config.error_k
        always = self._scores > problem.lowest * -float(num_votes)
        undecided = self._scores > problem.highest * -float(num_votes)
        undecided &= ~always
        least = table.num_outranking(always)
        most = table.num_outranking(undecided) - table.num_certain + least
        undecided &= ((least < k) & (most >= k))[table.images]
        pairs = np.flatnonzero(undecided)
        images = table.images[pairs]
        first = np.flatnonzero(np.append(True, images[1:] != images[:-1])) if len(pairs) else pairs
        return _Open(
            pairs=pairs,
            differences=table.differences[:, pairs],
            images=images[first],
            first=first,
            least=least[images[first]],
            errors=int(problem.counts[least >= k].sum()),
            votes_left=num_votes,
        )

    def _update_scores(self) -> None:
        for member in np.flatnonzero(self.votes - self._scored):
            new = float(self.votes[member] - self._scored[member])
            self._scores += self.table.differences[member] * new
        self._scored = self.votes.copy()

    def _exact(self, member: int) -> int:
        table, k = self.table, self.problem.config.error_k
        outranks = self._scores + table.differences[member] > 0
        is_error = table.num_outranking(outranks) >= k
        return table.count(is_error | self.is_broken | table.broken[:, member])


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Vote for `rounds` rounds in every bag."""
    counts = table.image_counts
    problem = _Problem(
        table,
        config,
        Limits.of(table, config),
        highest=table.differences.max(axis=0),
        lowest=table.differences.min(axis=0),
        true_probabilities=np.ascontiguousarray(table.true_probabilities.T),
        counts=np.ones(table.num_images, np.int64) if counts is None else counts,
    )
    votes, steps = np.zeros(table.num_members, dtype=np.int64), []
    for pool in _bags(table, config):
        if problem.limits.is_late and votes.any():
            break
        bag_votes, bag_steps = _vote(problem, pool, votes)
        votes += bag_votes
        steps += bag_steps
    if not votes.any():  # no member of any bag is cheap enough
        votes, steps = _vote(problem, list(range(table.num_members)), votes)
    notes = (late_note(config, f"after {len(steps)} votes"),) if problem.limits.is_late else ()
    units = votes * (WEIGHT_UNITS // votes.max())
    return finish(table, config, "caruana", units, tuple(steps) if config.bags == 1 else (), notes)


def _bags(table: OutrankingTable, config: SearchConfig) -> list[list[int]]:
    """List the members of each bag, in pool order."""
    if config.bags == 1:
        return [list(range(table.num_members))]
    rng = np.random.default_rng(config.seed)
    size = (table.num_members + 1) // 2
    return [np.sort(rng.permutation(table.num_members)[:size]).tolist() for _ in range(config.bags)]


def _vote(
    problem: _Problem, pool: list[int], before: Int[np.ndarray, " member"]
) -> tuple[Int[np.ndarray, " member"], list[SearchStep]]:
    """Give votes to members of a pool; `before` are those of earlier bags, for the caps."""
    table, config, limits = problem.table, problem.config, problem.limits
    state, steps = _Votes(problem), []
    best: tuple[Loss, int] | None = None
    best_votes = np.zeros(table.num_members, dtype=np.int64)
    start = [int(m) for m in by_objective(table, config) if m in pool][: config.initial]
    for number in range(config.rounds):
        if limits.is_late and number:
            break
        selected = (state.votes + before) > 0
        allowed = [m for m in pool if selected[m] or limits.allow_more(selected, m)]
        if number < len(start):
            allowed = [start[number]] if start[number] in allowed else []
        if not allowed:
            continue
        after, member, errors = _next_vote(state, allowed)
        state.add(member)
        steps.append(_step(table, member, int(state.votes[member]), errors))
        if best is None or after < best[0]:
            best, best_votes = (after, len(steps)), state.votes.copy()
        if number == len(start) - 1 and best[1] < len(steps):
            state, steps = _restart(problem, start[: best[1]], steps[: best[1]])
    return best_votes, steps[: best[1]] if best else []


def _next_vote(state: _Votes, allowed: list[int]) -> tuple[Loss, int, int]:
    """Find the member whose vote helps most, with the loss and the errors then."""
    config, costs = state.problem.config, state.problem.limits.costs
    errors = state.errors()
    if config.objective != "nll":
        least = errors[allowed].min()
        allowed = [member for member in allowed if errors[member] == least]
    losses = [
        loss(int(errors[member]), nll, config)
        for member, nll in zip(allowed, state.nll(allowed), strict=True)
    ]
    after, _, member = min(zip(losses, costs[allowed].tolist(), allowed, strict=True))
    return after, member, int(errors[member])


def _restart(
    problem: _Problem, start: list[int], steps: list[SearchStep]
) -> tuple[_Votes, list[SearchStep]]:
    """Go on from the best prefix of the sorted start."""
    state = _Votes(problem)
    for member in start:
        state.add(member)
    return state, steps


def _step(table: OutrankingTable, member: int, votes: int, errors: int) -> SearchStep:
    name = table.member_names[member]
    return SearchStep(name, float(votes), errors, True, np.zeros(0, np.int64))
