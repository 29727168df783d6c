"""`ensemble cascade --save` on a run whose weights are there: the artifact answers as the report says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble import predictor
from ensemble.checkpoints.load import load_member, load_network
from ensemble.errors import ConfigError
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.shard import plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.images.split import split
from ensemble.inference.predict import predict
from ensemble.table.logit_table import LogitTable
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView
from jobs.cascade.job import cascade
from jobs.settings import RunConfig
from jobs.stored_runs.finished import open_finished_run
from jobs.verify import verify

from ..conftest import Command

NAMES = ("resnet14_small", "alexnet_small")
SIZES = {"train": 60, "search": 100, "test": 150}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with two trained members, and their weights in the cache beside it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    members = [
        {
            "name": name,
            "source": {"kind": "recipe", "architecture": name},
            "views": {"kind": "center"},
        }
        for name in NAMES
    ]
    config = RunConfig.model_validate(
        {
            "images": {"source": {"kind": "digits"}, "split": SIZES},
            "recipes": {"default": {"epochs": 2}},
            "members": members,
            "runs": str(folder.parent),
        }
    )
    (folder / "config.json").write_text(config.model_dump_json())
    source = open_source(DigitsConfig())
    index = source.index()
    splits, table = split(index, SplitConfig(**SIZES), config.seed), LogitTable(folder / "table")
    shards = [decode_shard(source, s) for s in plan_shards(splits.train.image_ids.tolist(), 60)]
    recipe, cache = RecipeConfig(epochs=2, augmentation=None), folder.parent / "cache"
    for seed, name in enumerate(NAMES):
        task = TrainTask(name, name, recipe, seed, splits.train, tuple(range(10)), cache)
        checkpoint = train_member(task, shards, CPU)
        member = load_member(name, checkpoint, CenterView(), index.sha256)
        for part in (splits.search, splits.test):
            for spec in plan_shards(part.image_ids.tolist(), 64):
                block = predict(
                    load_network(member), member, decode_shard(source, spec), CPU, flops_per_image=7
                )
                table.commit(member, block)
    return folder


def test_the_saved_cascade_answers_as_its_report_says(run: Path, command_here: Command) -> None:
    words = ("kind=uniform", "cost=flops", "--lose", "30", "--save", "--measure")
    result = command_here("cascade", run, *words)
    assert result.returncode == 0, result.stderr
    assert "Wall time here, 150 images:" in result.stdout
    (place,) = run.glob("cascade/*/ensemble")
    assert f"artifact: {place}" in result.stdout
    report = json.loads((place.parent / "cascade-report.json").read_text())
    assert report["seconds"]["predicted"] > 0
    assert verify(place).is_sound
    images = open_finished_run(run).splits.test
    source = open_source(DigitsConfig())
    loaded = predictor.load(place, equal_bits=True)
    found = loaded.predict([source.decode(image_id) for image_id in images.image_ids.tolist()])
    assert found.exits is not None
    assert (found.answers != images.labels).mean() == pytest.approx(report["errors"]["cascade"])
    shares = [(found.exits == step + 1).mean() for step in range(len(report["steps"]))]
    assert shares == pytest.approx([step["exits"] for step in report["steps"]])
    assert 0 < shares[0] < 1
    # The sets that every answer has hold the labels as the report says.
    assert found.sets is not None
    held = found.sets[np.arange(len(images)), images.labels].mean()
    assert held == pytest.approx(report["sets"]["coverage"])
    assert found.sets.sum(axis=1).mean() == pytest.approx(report["sets"]["mean_size"])
    assert "It is a cascade" in (place / "README.md").read_text()


def test_what_is_not_saved_is_not_measured(run: Path) -> None:
    with pytest.raises(ConfigError, match="Add --save"):
        cascade(run, [], 5.0, measures=True)
    assert np.isfinite(cascade(run, ["cost=flops", "kind=uniform"], 30.0)[0].test.loss)
