"""Members that are values only: there are no weights behind them."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.views.settings import CenterView


def make_member(name: str = "a", num_classes: int = 3, **changes: object) -> Member:
    """Make a member by its name; equal names are equal members."""
    member = Member(
        name=name,
        architecture="alexnet_small",
        classes=tuple(range(num_classes)),
        checkpoint=Path("nowhere.safetensors"),
        weights_sha256=sha256(name.encode()).hexdigest(),
        head="head",
        parameters=1,
        preprocessing=Preprocessing(size=16, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4)),
        views=CenterView(),
        data_sha256="d" * 64,
    )
    return replace(member, **changes)
