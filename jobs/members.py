"""`ensemble members POOL`: a line for each member of a pool, without its weights."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ensemble.config import Config, load_words
from ensemble.members.source_settings import WeightsConfig
from jobs.pools import load_pool

if TYPE_CHECKING:
    from ensemble.pretrained.card import Card


class MembersConfig(Config):
    """Settings of `ensemble members`, given as key=value."""

    weights: WeightsConfig = WeightsConfig()
    """Where published weights are looked for, and what is trusted."""


def describe_pool(pool: str, words: Sequence[str]) -> list["Card"]:
    """Describe each member of a pool.

    Args:
        pool: The name of a pool, or the path of a YAML file with one.
        words: Settings, of the form key=value.

    Raises:
        ConfigError: A setting is wrong.
        CheckpointError: The source of a member cannot be described.
    """
    config = load_words(MembersConfig, words)
    members = load_pool(pool)
    from ensemble.pretrained.card import card  # torch, after parsing

    return [card(member, config.weights) for member in members]


def show(cards: Sequence["Card"], console: Console) -> None:
    """Print the members as a table."""
    table = Table(box=None)
    for column in ("member", "architecture"):
        table.add_column(column, no_wrap=True, overflow="fold")
    for column in ("params, M", "GFLOPs", "input", "views", "passes", "top-1 / top-5 error, %"):
        table.add_column(column, justify="right")
    table.add_column("weights")
    for card in cards:
        to, reference = card.preprocessing, card.reference
        table.add_row(
            card.name,
            card.architecture,
            _number(card.parameters and card.parameters / 1e6, 2),
            _number(card.gflops, 2),
            f"{to.size}{f' of {to.resize}' if to.resize else ''}" if to else "?",
            card.views,
            str(card.passes),
            f"{_number(reference.top1_error, 2)} / {_number(reference.top5_error, 2)}"
            if reference
            else "?",
            ("here" if card.is_present else "missing")
            + (f", {card.sha256[:8]}" if card.sha256 else ", any"),
        )
    console.print(table)
    console.print(
        "GFLOPs: of one forward pass; a multiply-add counts as two. Weights: the first digits of the "
        "sha256 that the file must have; `any` where the pool does not say which file it must be.",
        highlight=False,
    )


def as_json(cards: Sequence["Card"]) -> str:
    """Format the members as JSON."""
    return json.dumps([_plain(card) for card in cards], indent=2)


def _plain(card: "Card") -> dict[str, Any]:
    parts = {
        name: part.model_dump(mode="json") if part else None
        for name, part in (("preprocessing", card.preprocessing), ("reference", card.reference))
    }
    return asdict(card) | parts


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
