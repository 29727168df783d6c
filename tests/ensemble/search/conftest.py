"""Tables of one made-up pool: images to fit on, and others to judge on."""

import pytest

from ensemble.outranking.table import OutrankingTable

from .pool import make_pool, make_table


@pytest.fixture(scope="session")
def table() -> OutrankingTable:
    return make_table(*make_pool(0))


@pytest.fixture(scope="session")
def held_out() -> OutrankingTable:
    return make_table(*make_pool(1))
