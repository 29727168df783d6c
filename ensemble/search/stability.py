"""How much the weights depend on the images they were fitted on: the same search on resampled images."""

import time
from dataclasses import dataclass

import numpy as np

from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig


@dataclass(frozen=True)
class MemberStability:
    """How a member fares over the resamples.

    Attributes:
        member: Its name.
        frequency: Share of the resamples in which its weight is above 0.
        mean: Mean of its share of all weights (weights divided by their sum).
        sd: Standard deviation of that share.
        low: 2.5 % quantile of that share.
        high: 97.5 % quantile of that share.
    """

    member: str
    frequency: float
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Stability:
    """What resampling says of a search.

    Attributes:
        resamples: Bootstrap samples that were searched.
        members: How each member fares, in pool order.
        same_selection: Share of the resamples that select the very members of the full sample.
        in_bag_error: Mean error on the images of a resample. Optimistic.
        out_of_bag_error: Mean error on the images that a resample left out; None if it never did.
    """

    resamples: int
    members: tuple[MemberStability, ...]
    same_selection: float
    in_bag_error: float
    out_of_bag_error: float | None


def bootstrap(
    table: OutrankingTable,
    ensemble: Ensemble,
    config: SearchConfig,
    resamples: int = 200,
    seed: int = 0,
    time_limit_s: float | None = None,
) -> Stability:
    """Search again on bootstrap samples of the images.

    Args:
        table: The table that the ensemble was fitted on.
        ensemble: The ensemble, fitted on all images with `config`.
        config: Settings of the search; of `auto`, the search that it took is repeated, not the choice.
        resamples: Most bootstrap samples to search.
        seed: Seed of the resampling.
        time_limit_s: No resample begins after so many seconds, but one is always done.
    """
    rng, began = np.random.default_rng(seed), time.monotonic()
    config = config.model_copy(
        update={"kind": ensemble.search, "combine": ensemble.combine, "time_limit_s": None}
    )
    table = table.of(ensemble.combine)
    weights, in_bag, out_of_bag = [], [], []
    for number in range(resamples):
        if number and time_limit_s is not None and time.monotonic() - began > time_limit_s:
            break
        indices = rng.integers(0, table.num_images, size=table.num_images)
        counts = np.bincount(indices, minlength=table.num_images)
        resampled = fit(table.reweighted(counts), config)
        weights.append(resampled.normalised)
        in_bag.append(resampled.error)
        if (is_out := counts == 0).any():
            out_of_bag.append(table.is_error(resampled.units, resampled.k)[is_out].mean())
    shares = np.array(weights)
    selected = shares > 0
    return Stability(
        resamples=len(shares),
        members=tuple(
            _member(name, shares[:, member]) for member, name in enumerate(table.member_names)
        ),
        same_selection=float((selected == (ensemble.units > 0)).all(axis=1).mean()),
        in_bag_error=float(np.mean(in_bag)),
        out_of_bag_error=float(np.mean(out_of_bag)) if out_of_bag else None,
    )


def _member(name: str, shares: np.ndarray) -> MemberStability:
    low, high = np.quantile(shares, [0.025, 0.975])
    return MemberStability(
        member=name,
        frequency=float((shares > 0).mean()),
        mean=float(shares.mean()),
        sd=float(shares.std(ddof=1)) if len(shares) > 1 else 0.0,
        low=float(low),
        high=float(high),
    )
