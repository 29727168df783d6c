"""Ensemble selection with replacement: each round, the member whose vote lowers the loss most gets one.

Weights are votes. The start is the best of the prefixes of at most `initial` best members, one vote
each (sorted initialisation); what is returned is the best of all rounds. With bags, the whole is
repeated on random halves of the pool and the votes are added. Ties as in `forward`.

With each vote the score of a pair changes by the difference of one member. So a pair whose score lies
beyond the largest and smallest of these, times some votes, is decided for these votes whoever gets
them; only the others, and only on images that they can turn, are looked at. That is done twice over:
what the next few votes can turn is picked out of what many votes can.

Source: Caruana et al. 2004, sections 2.1 to 2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Num

from ensemble.search.config import SearchConfig
from ensemble.search.fixed_point import WEIGHT_UNITS
from ensemble.search.limits import Limits
from ensemble.search.one_weight import as_counted, mean_loss
from ensemble.search.order import by_objective
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.state import Loss, finish, late_note, loss

_FAR = 7  # what this many times the votes so far can turn is picked out of the whole table,
_NEAR = 3  # and out of that what this part of the votes so far can turn


@dataclass(frozen=True, eq=False)
class _Problem:
    """One table with what every round needs of it."""

    table: OutrankingTable
    config: SearchConfig
    limits: Limits
    highest: Int32[np.ndarray, " pair"]
    lowest: Int32[np.ndarray, " pair"]
    counts: Int[np.ndarray, " image"]


@dataclass(eq=False)
class _Open:
    """The pairs and images that the next votes can still turn, whoever gets them.

    Attributes:
        differences: Of these pairs.
        highest: The largest of them over members.
        lowest: The smallest.
        scores: Of these pairs, kept up to date with the votes.
        images: Images that have such pairs, ascending.
        num_pairs: Pairs of each image.
        first: The first pair of each image.
        least: Classes that outrank the label whatever comes, of each image.
        counts: How often each image counts.
        errors: Images that are errors whatever comes.
        votes_left: After so many votes all this is out of date.
    """

    differences: Num[np.ndarray, "member pair"]
    highest: Int32[np.ndarray, " pair"]
    lowest: Int32[np.ndarray, " pair"]
    scores: Float[np.ndarray, " pair"]
    images: Int[np.ndarray, " image"]
    num_pairs: Int[np.ndarray, " image"]
    first: Int[np.ndarray, " image"]
    least: Int[np.ndarray, " image"]
    counts: Int[np.ndarray, " image"]
    errors: int
    votes_left: float

    @classmethod
    def whole(cls, problem: "_Problem") -> "_Open":
        """Leave everything open, whatever comes; nobody has a vote."""
        table = problem.table
        num_pairs = np.diff(table.indptr)
        images = np.flatnonzero(num_pairs)
        closed = (num_pairs == 0) & (table.num_certain >= problem.config.error_k)
        return cls(
            differences=table.differences,
            highest=problem.highest,
            lowest=problem.lowest,
            scores=np.array(table.bias),
            images=images,
            num_pairs=num_pairs[images],
            first=table.indptr[images],
            least=table.num_certain[images],
            counts=problem.counts[images],
            errors=int(problem.counts[closed].sum()),
            votes_left=np.inf,
        )

    def add(self, member: int, votes: int = 1) -> None:
        self.votes_left -= votes
        if self.votes_left > 0:
            change = self.differences[member]
            self.scores += change if votes == 1 else change * float(votes)

    def narrow(self, num_votes: float, k: int, dtype: type[np.generic]) -> "_Open":
        """Pick out what so many votes can turn."""
        always = self.scores > self.lowest * -num_votes
        undecided = self.scores > self.highest * -num_votes
        undecided &= ~always
        least, num_pairs = self.least + self.count(always), self.count(undecided)
        is_open = (least < k) & (least + num_pairs >= k)
        undecided &= np.repeat(is_open, self.num_pairs)
        pairs, num_pairs = np.flatnonzero(undecided), num_pairs[is_open]
        return _Open(
            differences=self.differences.take(pairs, axis=1).astype(dtype, copy=False),
            highest=self.highest[pairs],
            lowest=self.lowest[pairs],
            scores=self.scores[pairs],
            images=self.images[is_open],
            num_pairs=num_pairs,
            first=np.cumsum(num_pairs) - num_pairs,
            least=least[is_open],
            counts=self.counts[is_open],
            errors=self.errors + int(self.counts[least >= k].sum()),
            votes_left=num_votes,
        )

    def count(self, marked: Bool[np.ndarray, "*member pair"]) -> Int32[np.ndarray, "*member image"]:
        """Count the marked pairs of each image, none of which is without pairs."""
        if not len(self.first):
            return np.zeros((*marked.shape[:-1], 0), dtype=np.int32)
        counts: Int32[np.ndarray, "*member image"] = np.add.reduceat(
            marked.view(np.int8), self.first, axis=-1, dtype=np.int32
        )
        return counts

    def errors_with_each(self, k: int) -> Int[np.ndarray, " member"]:
        """Count the errors with one more vote for each member."""
        more = self.count(self.differences > -self.scores)
        errors: Int[np.ndarray, " member"] = (more >= k - self.least) @ self.counts + self.errors
        return errors


class _Votes:
    """The votes of one bag, and the scores they make."""

    def __init__(self, problem: _Problem) -> None:
        self.table = problem.table
        self.problem = problem
        self.votes = np.zeros(self.table.num_members, dtype=np.int64)
        self.true_sum = np.zeros(self.table.num_counted)
        self.is_broken = np.zeros(self.table.num_images, dtype=np.bool_)
        self._whole = _Open.whole(problem)
        self._in_whole = np.zeros_like(self.votes)  # the votes that are in its scores
        self._far: _Open | None = None
        self._near: _Open | None = None

    def add(self, member: int) -> None:
        self.votes[member] += 1
        self.true_sum += self.table.label_columns[member]
        if self.table.num_broken[member]:
            self.is_broken |= self.table.broken[:, member]
        for opened in (self._far, self._near):
            if opened:
                opened.add(member)

    def errors(self) -> Int[np.ndarray, " member"]:
        """Count the errors with one more vote for each member."""
        if not self.votes.any():
            return self.table.member_errors(self.problem.config.error_k)
        if self.table.num_broken.any():
            self._update_whole()
            return np.array([self._exact(member) for member in range(self.table.num_members)])
        return self._opened().errors_with_each(self.problem.config.error_k)

    def _opened(self) -> _Open:
        """Give what the next vote can turn. The more votes there are, the less can one more turn."""
        num_votes, k = int(self.votes.sum()), self.problem.config.error_k
        if self._far is None or self._far.votes_left <= 0:
            self._update_whole()
            self._far = self._whole.narrow(float(_FAR * num_votes), k, np.int32)
            self._near = None
        if self._near is None or self._near.votes_left <= 0:
            near = min(2.0 + num_votes // _NEAR, self._far.votes_left)
            # As float64, which every round would make of them otherwise.
            self._near = self._far.narrow(near, k, np.float64)
        return self._near

    def nll(self, members: Sequence[int]) -> list[float]:
        """Give the NLL with one more vote for each of some members."""
        total, table, nlls = float(self.votes.sum() + 1), self.table, []
        for member in members:
            averages = self.true_sum + table.label_columns[member]
            averages /= total
            if table.num_broken.any():
                averages[as_counted(table, self.is_broken | table.broken[:, member])] = 0
            nlls.append(mean_loss(averages))
        return nlls

    def _update_whole(self) -> None:
        for member in np.flatnonzero(self.votes - self._in_whole).tolist():
            self._whole.add(member, int(self.votes[member] - self._in_whole[member]))
        self._in_whole = self.votes.copy()

    def _exact(self, member: int) -> int:
        table, k = self.table, self.problem.config.error_k
        outranks = self._whole.scores + table.differences[member] > 0
        is_error = table.num_outranking(outranks) >= k
        return table.count(is_error | self.is_broken | table.broken[:, member])


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Vote for `rounds` rounds in every bag."""
    counts = table.image_counts
    problem = _Problem(
        table,
        config,
        Limits.of(table, config),
        highest=_over_members(np.maximum, table),
        lowest=_over_members(np.minimum, table),
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


def _over_members(extreme: np.ufunc, table: OutrankingTable) -> Int32[np.ndarray, " pair"]:
    """Reduce over the axis of members: row by row is several times faster than `ufunc.reduce`."""
    found = table.differences[0].copy()
    for row in table.differences[1:]:
        extreme(found, row, out=found)
    return found


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
