"""Which pools of random predictions the properties of tables and searches are tried on, and at which weights."""

from collections.abc import Collection
from typing import Any

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Int

# Of the fixture make_pool: each provokes something else, as ties, underflow or broken rows.
KINDS = (
    "random",
    "eighths",
    "one_hot",
    "constant",
    "duplicates",
    "tiny",
    "half",
    "double",
    "broken",
    "half_broken",
)


def cases(
    members: tuple[int, int],
    images: tuple[int, int],
    classes: tuple[int, int],
    without: Collection[str] = (),
    **more: st.SearchStrategy[Any],
) -> dict[str, st.SearchStrategy[Any]]:
    """Draw a kind of pool, a seed and a shape within these bounds, and more where a test needs it."""
    sizes = (st.integers(*bounds) for bounds in (members, images, classes))
    return {
        "kind": st.sampled_from([kind for kind in KINDS if kind not in without]),
        "seed": st.integers(0, 2**32 - 1),
        "shape": st.tuples(*sizes),
        **more,
    }


def random_weights(seed: int, members: int) -> Int[np.ndarray, "member"]:
    """Draw weights of the paper's grid in units of 0.00001, some of them 0 and at least one positive."""
    rng = np.random.default_rng(seed + 1)
    weights = rng.integers(0, 101, size=members) * rng.integers(0, 2, size=members)
    weights[rng.integers(members)] = rng.choice([1, 50, 100])
    return weights * 1000
