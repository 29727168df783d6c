"""The searches by name, and the one way to run one. A search is added as a file and a line here."""

from collections.abc import Callable

from ensemble.errors import UnknownNameError
from ensemble.outranking.table import OutrankingTable
from ensemble.search import auto
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig

Search = Callable[[OutrankingTable, SearchConfig], Ensemble]

SEARCHES: dict[str, Search] = {**auto.CANDIDATES, "auto": auto.fit}


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Find weights over the members of a table.

    Args:
        table: The table of the search split; judge the weights on other images. For weights of
            logarithms it must be built with `config.combines`.
        config: Which search, and which error it lowers.

    Raises:
        UnknownNameError: No search has the name `kind`, or a setting names no member of the table.
        ConfigError: k is not below the number of classes, the settings contradict each other, or the
            table was not built for the means that they ask for.
    """
    if config.kind not in SEARCHES:
        raise UnknownNameError.of("search", config.kind, SEARCHES)
    if config.kind == "auto":
        return auto.fit(table, config)
    return SEARCHES[config.kind](table.of(config.combine or "probabilities"), config)
