"""What the steps of a cascade are priced at."""

import numpy as np
import pytest

from jobs.cascade.seconds import price


def test_a_step_costs_what_as_many_images_take_alone() -> None:
    curves = [{1: 2.0, 2: 3.0, 4: 5.0, 8: 9.0}, {1: 10.0, 2: 20.0, 8: 50.0}]
    # Eight images take the first step; five of them go on, between 2 and 8.
    exits = np.array([1, 1, 1, 2, 2, 2, 2, 2])
    assert price(curves, exits) == pytest.approx(9.0 + 35.0)
    assert price(curves, np.array([1])) == 2.0
    assert price(curves, np.array([1, 2])) == pytest.approx(3.0 + 10.0)


def test_costs_in_proportion_are_the_mean_costs_times_the_shares() -> None:
    rng = np.random.default_rng(0)
    each = rng.uniform(1, 9, 3)
    curves = [{size: cost * size for size in (1, 2, 4, 64)} for cost in each]
    exits = rng.integers(1, 4, 64)
    shares = [(exits > step).mean() for step in range(3)]
    assert price(curves, exits) == pytest.approx(64 * float(np.dot(each, shares)))
