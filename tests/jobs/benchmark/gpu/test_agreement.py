import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.benchmark.gpu.agreement import compare

ROWS = np.log(np.array([[0.7, 0.2, 0.1], [0.4, 0.3995, 0.2005], [0.1, 0.1, 0.8]]))


def test_equal_rows_agree() -> None:
    result = compare(ROWS, ROWS.copy())
    assert (result.largest, result.answers, result.near_ties) == (0.0, 0, 0)


def test_an_exchange_of_a_near_tie_is_counted_apart() -> None:
    other = ROWS[:, [1, 0, 2]]
    result = compare(ROWS, other)
    assert (result.images, result.answers, result.near_ties) == (3, 1, 1)


def test_a_row_that_is_no_number_is_no_agreement() -> None:
    other = ROWS.copy()
    other[1, 1] = np.nan
    assert not compare(ROWS, other).largest <= 1e3


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 5e-4))
def test_changes_within_the_tolerance_flip_near_ties_only(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, 4))
    other = rows + rng.uniform(-size, size, rows.shape)
    assert compare(rows, other).answers == 0
