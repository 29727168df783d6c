"""The folder of a finished run, made by hand: no model has to be trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.split import split
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import CenterView
from jobs.settings import RunConfig

SIZES = {"train": 60, "search": 200, "test": 150}
NAMES = ("weak", "middle", "strong")


def _member(name: str, number: int) -> Member:
    return Member(
        name=name,
        architecture=f"net{number}",
        classes=tuple(range(10)),
        checkpoint=Path("nowhere.safetensors"),
        weights_sha256=f"{number:064x}",
        head="head",
        parameters=1000,
        preprocessing=Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)),
        views=CenterView(),
        data_sha256=open_source(DigitsConfig()).index().sha256,
    )


def _logs(labels: np.ndarray, strength: float, seed: int, sharpness: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(len(labels), 10))
    logits[np.arange(len(labels)), labels] += strength
    logits *= sharpness
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logs.astype(np.float32)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(
        members: int = 3,
        pool: int = 3,
        sharpness: float = 1.0,
        broken: float = 0.0,
        **settings: object,
    ) -> Path:
        """A run whose last member has its logits multiplied: as many errors, another NLL.

        A share of the rows of the last member is NaN.
        """
        config = RunConfig.model_validate(
            {
                "images": {"source": {"kind": "digits"}, "split": SIZES},
                "recipes": {"default": {}},
                "members": [
                    {"name": name, "source": {"kind": "recipe", "architecture": "resnet14_small"}}
                    for name in NAMES[:pool]
                ],
                **settings,
            }
        )
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.json").write_text(config.model_dump_json())
        splits = split(open_source(DigitsConfig()).index(), SplitConfig(**SIZES), config.seed)
        table = LogitTable(folder / "table")
        for number, name in enumerate(NAMES[:members]):
            member = _member(name, number)
            for part in (splits.search, splits.test):
                logs = _logs(part.labels, 1.5 + number, number, sharpness if number == 2 else 1.0)
                if number == 2:
                    logs[: round(broken * len(part))] = np.nan
                block = LogitBlock(
                    column=member.column,
                    image_ids=part.image_ids,
                    log_probabilities=logs,
                    bad=(),
                    forward_passes=len(part),
                    seconds=0.5 * (number + 1),
                    flops_per_image=1000 * (number + 1),
                )
                table.commit(member, block)
        return folder

    return make
