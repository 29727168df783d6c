"""Ensemble selection with replacement: one vote a round, for the member that lowers the loss most.

Weights are votes. The start is the best of the prefixes of at most `initial` best members, one vote
each (sorted initialisation); what is returned is the best of all rounds. With bags, the whole is
repeated on random halves of the pool and the votes are added. Ties as in `forward`.

With each vote the score of a pair changes by the difference of one member. So a pair whose score lies
beyond the largest and smallest of these, times some votes, is decided for these votes, whichever members
get them; only the others, and only on images that they can turn, are looked at. That is done twice over:
what the next few votes can turn is picked out of what many votes can.

Source: Caruana et al. 2004, sections 2.1 to 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32

from ensemble.outranking import measures
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.one_weight import as_counted, mean_loss
from ensemble.outranking.pairs import Pairs
from ensemble.outranking.sweep import outranks_at
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import Loss, best_first, finish, late_note, loss

_FAR = 7  # what this many times the votes so far can turn is picked out of the whole table,
_NEAR = 3  # and out of that what this part of the votes so far can turn
_BLOCK_PAIRS = 1 << 15  # so that all members' stay in cache
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class _Problem:
    """One table with what every round needs of it."""

    table: OutrankingTable
    config: SearchConfig
    limits: Limits
    highest: Float[np.ndarray, " pair"]
    lowest: Float[np.ndarray, " pair"]
    counts: Int[np.ndarray, " image"]


@dataclass(eq=False)
class _Open:
    """The pairs and images that the next votes can still turn, whichever members get them.

    Attributes:
        differences: Score differences of these pairs.
        highest: Largest difference of each pair over members.
        lowest: Smallest difference of each pair over members.
        scores: Scores of these pairs with the votes so far.
        votes: The votes that are in the scores.
        pairs: The images of these pairs, and the classes that outrank the label whatever comes.
        counts: How often each image counts.
        errors: Images that are errors whatever comes.
        until: Number of votes from which on all this is out of date.
    """

    differences: Int32[np.ndarray, "member pair"]
    highest: Float[np.ndarray, " pair"]
    lowest: Float[np.ndarray, " pair"]
    scores: Float[np.ndarray, " pair"]
    votes: Int[np.ndarray, " member"]
    pairs: Pairs
    counts: Int[np.ndarray, " image"]
    errors: int
    until: float

    @classmethod
    def whole(cls, problem: "_Problem") -> "_Open":
        """Leave all pairs open; no member has a vote."""
        table = problem.table
        pairs = Pairs.of(table.indptr, table.num_certain)
        closed = (np.diff(table.indptr) == 0) & (table.num_certain >= problem.config.error_k)
        return cls(
            differences=table.differences,
            highest=problem.highest,
            lowest=problem.lowest,
            scores=np.array(table.bias),
            votes=np.zeros(table.num_members, dtype=np.int64),
            pairs=pairs,
            counts=problem.counts[pairs.images],
            errors=int(problem.counts[closed].sum()),
            until=np.inf,
        )

    def update(self, votes: Int[np.ndarray, " member"]) -> None:
        """Bring the scores up to date with the votes."""
        more = votes - self.votes
        for member in np.flatnonzero(more).tolist():
            change = self.differences[member]
            self.scores += change if more[member] == 1 else change * float(more[member])
        self.votes = votes.copy()

    def narrow(self, num_votes: float, k: int) -> "_Open":
        """Pick out what so many votes can turn."""
        always = outranks_at(num_votes, self.scores, self.lowest)
        undecided = outranks_at(num_votes, self.scores, self.highest)
        undecided &= ~always
        least = self.pairs.num_certain + self.pairs.count(always)
        num_pairs = self.pairs.count(undecided)
        is_open = (least < k) & (least + num_pairs >= k)
        undecided &= np.repeat(is_open, np.diff(self.pairs.bounds))
        kept, ends = np.flatnonzero(undecided), np.cumsum(num_pairs[is_open])
        return _Open(
            differences=self.differences.take(kept, axis=1),
            highest=self.highest[kept],
            lowest=self.lowest[kept],
            scores=self.scores[kept],
            votes=self.votes,
            pairs=Pairs(
                images=self.pairs.images[is_open],
                first=ends - num_pairs[is_open],
                num_certain=least[is_open],
                num_pairs=len(kept),
            ),
            counts=self.counts[is_open],
            errors=self.errors + int(self.counts[least >= k].sum()),
            until=float(self.votes.sum()) + num_votes,
        )

    def errors_with_each(self, k: int) -> Int[np.ndarray, " member"]:
        """Count the errors with one more vote for each member."""
        # D + score > 0 in int32: no score here is an integer, and no D is beyond these bounds.
        bars = np.floor(-self.scores)
        np.clip(bars, -_LARGEST, _LARGEST, out=bars)
        more = self.pairs.count(self.differences > bars.astype(np.int32))
        errors: Int[np.ndarray, " member"] = (more >= k - self.pairs.num_certain) @ self.counts
        return errors + self.errors


class _Votes:
    """The votes of one bag, and the scores they make."""

    def __init__(self, problem: _Problem) -> None:
        self.table = problem.table
        self.problem = problem
        self.votes = np.zeros(self.table.num_members, dtype=np.int64)
        self.true_sum = np.zeros(self.table.num_counted)
        self.is_broken = np.zeros(self.table.num_images, dtype=np.bool_)
        self._whole = _Open.whole(problem)
        self._far: _Open | None = None
        self._near: _Open | None = None

    def add(self, member: int) -> None:
        self.votes[member] += 1
        self.true_sum += self.table.label_columns[member]
        if self.table.num_broken[member]:
            self.is_broken |= self.table.broken[:, member]

    def errors(self) -> Int[np.ndarray, " member"]:
        """Count the errors with one more vote for each member."""
        if not self.votes.any():
            return measures.member_errors(self.table, self.problem.config.error_k)
        if self.table.num_broken.any():
            self._whole.update(self.votes)
            return np.array([self._exact(member) for member in range(self.table.num_members)])
        return self._opened().errors_with_each(self.problem.config.error_k)

    def _opened(self) -> _Open:
        """Give what the next vote can turn. The more votes there are, the less can one more turn."""
        num_votes, k = int(self.votes.sum()), self.problem.config.error_k
        if self._near is None or num_votes >= self._near.until:
            if self._far is None or num_votes >= self._far.until:
                self._whole.update(self.votes)
                self._far = self._whole.narrow(float(_FAR * num_votes), k)
            self._far.update(self.votes)
            near = min(2.0 + num_votes // _NEAR, self._far.until - num_votes)
            self._near = self._far.narrow(near, k)
        self._near.update(self.votes)
        return self._near

    def nll(self, members: Sequence[int]) -> list[float]:
        """Give the NLL with one more vote for each of some members."""
        total, table, nlls = float(self.votes.sum() + 1), self.table, []
        if table.combine == "logs":
            each = np.eye(table.num_members, dtype=np.int64)
            return [measures.search_nll(table, self.votes + each[member]) for member in members]
        for member in members:
            averages = self.true_sum + table.label_columns[member]
            averages /= total
            if table.num_broken.any():
                averages[as_counted(table, self.is_broken | table.broken[:, member])] = 0
            nlls.append(mean_loss(averages))
        return nlls

    def _exact(self, member: int) -> int:
        table, k = self.table, self.problem.config.error_k
        outranks = self._whole.scores + table.differences[member] > 0
        is_error = table.num_outranking(outranks) >= k
        return table.count(is_error | self.is_broken | table.broken[:, member])


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Vote for `rounds` rounds in every bag."""
    counts = table.image_counts
    highest, lowest = _extremes(table)
    problem = _Problem(
        table,
        config,
        Limits.of(table, config),
        highest=highest,
        lowest=lowest,
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
    if config.bags > 1:
        return finish(table, config, "caruana", units, notes=notes)
    return finish(table, config, "caruana", units, tuple(steps), notes, steps[-1].errors)


def _extremes(table: OutrankingTable) -> Float[np.ndarray, "extreme pair"]:
    """Give each pair's largest and smallest difference, in float64, as which each use takes them."""
    extremes = np.empty((2, table.num_pairs))
    for first in range(0, table.num_pairs, _BLOCK_PAIRS):
        part = slice(first, first + _BLOCK_PAIRS)
        block = table.differences[:, part]
        extremes[0, part], extremes[1, part] = block.max(axis=0), block.min(axis=0)
    return extremes


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
    start: list[int] = []
    if config.initial:
        start = [int(m) for m in best_first(table, config) if m in pool][: config.initial]
    for number in range(config.rounds):
        if limits.is_late and number:
            break
        allowed = pool
        if limits.are_set:
            selected = (state.votes + before) > 0
            allowed = [m for m in pool if selected[m] or limits.allow_more(selected, m)]
        if number < len(start):
            allowed = [start[number]] if start[number] in allowed else []
        if not allowed:
            continue
        after, member, errors = _next_vote(state, allowed, best[0] if best else None)
        state.add(member)
        steps.append(_step(table, member, int(state.votes[member]), errors))
        if best is None or after < best[0]:
            best, best_votes = (after, len(steps)), state.votes.copy()
        if number == len(start) - 1 and best[1] < len(steps):
            state, steps = _restart(problem, start[: best[1]], steps[: best[1]])
    return best_votes, steps[: best[1]] if best else []


def _next_vote(state: _Votes, allowed: list[int], best: Loss | None) -> tuple[Loss, int, int]:
    """Find the member whose vote helps most, with the loss and the errors then.

    Where errors alone say that it is no new best, its NLL is not counted and stands as infinity.
    """
    config, costs = state.problem.config, state.problem.limits.costs
    errors = state.errors().tolist()
    if config.objective != "nll":
        least = min(errors[member] for member in allowed)
        allowed = [member for member in allowed if errors[member] == least]
        if len(allowed) == 1 and best is not None and least > best[0]:
            return (float(least), np.inf), allowed[0], least
    nlls = state.nll(allowed)
    losses = [loss(errors[member], nll, config) for member, nll in zip(allowed, nlls, strict=True)]
    after, _, member = min(zip(losses, costs[allowed].tolist(), allowed, strict=True))
    return after, member, errors[member]


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
