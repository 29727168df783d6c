"""Errors over all real weights, against rational arithmetic at and between all crossing points."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.outranking.builder import from_columns
from ensemble.outranking.fixed_point import WEIGHT_UNITS, largest_total
from ensemble.outranking.one_weight import plateaus
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig

from ..pools import cases

CASES = cases((2, 3), (1, 6), (3, 5), without=("double", "half_broken"), k=st.integers(1, 2))


def _errors(table, units, member, weight, k):
    """Count errors at a rational weight, with a half for who wins ties."""
    errors = 0
    selected = [(m, Fraction(int(u))) for m, u in enumerate(units) if u and m != member]
    selected += [(member, weight)] if weight else []
    for image in range(table.num_images):
        pairs = range(*table.indptr[image : image + 2])
        above = (
            sum(u * int(table.differences[m, pair]) for m, u in selected)
            + Fraction(float(table.bias[pair]))
            for pair in pairs
        )
        # The bias may not outweigh a difference that is less than one half.
        exact = [
            score - bias or bias
            for score, bias in zip(
                above, (Fraction(float(table.bias[pair])) for pair in pairs), strict=True
            )
        ]
        is_broken = any(table.broken[image, m] for m, _ in selected)
        errors += is_broken or sum(score > 0 for score in exact) >= k
    return errors


def _crossings(table, units, member):
    others = np.array(units)
    others[member] = 0
    constant = np.rint(table.scores(others) - table.bias).astype(np.int64)
    slope = table.differences[member]
    found = {Fraction(-int(a), int(d)) for a, d in zip(constant, slope, strict=True) if d}
    return sorted({Fraction(0), *(x for x in found if x > 0)})


def _everywhere(table, units, member):
    """Give each crossing point and a point on each open interval between them and beyond."""
    points = _crossings(table, units, member)
    between = [(a + b) / 2 for a, b in zip(points, [*points[1:], points[-1] + 2], strict=True)]
    return [x for pair in zip(points, between, strict=True) for x in pair]


@given(**CASES)
@settings(max_examples=30, deadline=None)
def test_plateaus_are_the_errors_at_all_real_weights(make_pool, kind, seed, shape, k):
    logs, labels = make_pool(kind, seed, shape)
    table = from_columns({f"m{i}": c for i, c in enumerate(logs)}, labels)
    rng = np.random.default_rng(seed)
    units = rng.integers(0, 4, shape[0]) * rng.integers(1, WEIGHT_UNITS // 4)
    units[0], member = WEIGHT_UNITS, shape[0] - 1
    units[member] = 0
    scores = table.scores(units)
    near = plateaus(table, units, member, k, scores, 0, WEIGHT_UNITS, WEIGHT_UNITS)
    far = plateaus(table, units, member, k, scores, WEIGHT_UNITS, None, 10**6)
    found = near.then(far)

    expected = [_errors(table, units, member, x, k) for x in _everywhere(table, units, member)]
    distinct = [e for e, before in zip(expected, [None, *expected], strict=False) if e != before]
    assert found.errors.tolist() == distinct
    for weight in rng.integers(0, 2 * WEIGHT_UNITS, 5).tolist():
        assert found.at(np.array([weight])) == _errors(table, units, member, Fraction(weight), k)
    for first, last, errors in zip(found.first, found.last, found.errors, strict=True):
        assert last >= first - 1 or first > 10**6 == last
        for weight in {int(first), int(last)} if last >= first else ():
            assert _errors(table, units, member, Fraction(weight), k) == errors


@given(**CASES)
@settings(max_examples=20, deadline=None)
def test_line_takes_the_least_errors_of_all_real_weights_or_says_why_not(
    make_pool, kind, seed, shape, k
):
    logs, labels = make_pool(kind, seed, shape)
    table = from_columns({f"m{i}": c for i, c in enumerate(logs)}, labels)
    ensemble = fit(table, SearchConfig(kind="line", k=k))
    units = np.zeros(shape[0], dtype=int)
    for number, step in enumerate(ensemble.steps):
        member = table.member_names.index(step.member)
        if number:
            everywhere = _everywhere(table, units, member)
            least = min(_errors(table, units, member, x, k) for x in everywhere)
            is_said = any(step.member in note for note in ensemble.notes)
            assert step.errors == least or (step.errors > least and is_said)
        units[member] = round(step.weight * WEIGHT_UNITS)
        assert table.errors(units, k) == step.errors


def test_line_gives_a_member_more_than_the_best_one_where_that_is_right():
    # m0 alone is right twice; with more than 1.5 of m1, all three images are.
    m0 = np.log([[0.6, 0.4, 1e-9], [0.6, 0.4, 1e-9], [0.2, 0.5, 0.3]])
    m1 = np.log([[0.5, 0.5, 1e-9], [0.5, 0.5, 1e-9], [0.52, 0.32, 0.16]])
    m1[:2, 1] += 1e-3
    table = from_columns({"m0": m0, "m1": m1}, np.array([0, 0, 0]))
    ensemble = fit(table, SearchConfig(kind="line", k=1))
    assert ensemble.errors == 0
    assert ensemble.weights[1] > 1.5
    assert fit(table, SearchConfig(kind="paper", k=1)).errors == 1


def test_errors_that_no_multiple_of_a_unit_has_are_named():
    # Image 0 needs a weight above 1/3, and image 1 one below 0.3333356.
    m0 = np.log([[0.4, 0.5, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
    m1 = np.log([[0.6, 0.3, 0.1], [0.3 + 2e-6, 0.6, 0.1], [0.3, 0.6, 0.1]])
    table = from_columns({"m0": m0, "m1": m1}, np.array([0, 0, 0]))
    ensemble = fit(table, SearchConfig(kind="line", k=1))
    assert ensemble.errors == 1
    (note,) = ensemble.notes
    assert "weight of m1 between 0.33333 and 0.33334, errors would be fewer by 1" in note


def test_the_largest_total_is_exact_for_any_part_of_the_pool():
    totals = [largest_total(n) for n in range(1, 200)]
    assert all(total >= WEIGHT_UNITS * n for n, total in enumerate(totals, 1))
    assert set(totals[:41]) == {totals[0]}
    assert totals == sorted(totals)
