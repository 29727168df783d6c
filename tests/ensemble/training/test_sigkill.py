"""Trainings that are killed again and again, as a machine that goes away kills them."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Trains with the settings of its second argument into the folder of its first; each step is a checkpoint.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask

torch.set_num_threads(1)
source = open_source(DigitsConfig())
images = source.index().take(np.arange(200))
shards = [decode_shard(source, spec) for spec in plan_shards(images.image_ids.tolist(), 200)]
recipe = RecipeConfig.model_validate(json.loads(sys.argv[2]))
task = TrainTask(
    "a", "alexnet_small", recipe, 0, images, tuple(range(10)), Path(sys.argv[1]), checkpoint_s=0.0
)
print("begins", flush=True)
train_member(task, shards, torch.device("cpu"))
"""

KILLS = 20
RECIPES: dict[str, dict[str, object]] = {
    "SAM and the average": {"sam_rho": 0.05, "ema": 0.99},
    "a plateau and mixed images": {
        "schedule": {"kind": "plateau", "patience": 0},
        "mixup": 0.2,
        "cutmix": 1.0,
    },
    "warm restarts": {
        "schedule": {"kind": "warm_restarts", "first_epochs": 2},
        "snapshots": {"at": "restarts"},
    },
}


def begin(folder: Path, recipe: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), recipe], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "begins\n"
    return process


@pytest.mark.nightly
@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES.keys())
def test_weights_after_many_kills_are_those_of_an_uninterrupted_training(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    recipe, rng = json.dumps({"epochs": 6, "batch_size": 8} | settings), random.Random(0)
    started = time.monotonic()
    whole = begin(tmp_path / "whole", recipe)
    assert whole.wait() == 0
    seconds, kills = time.monotonic() - started, 0
    while kills < KILLS:
        process = begin(tmp_path / "part", recipe)
        try:
            # A few parts of the whole, so that not all of it is done before the last kill.
            process.wait(timeout=rng.uniform(0, 1.5 * seconds / KILLS))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            break  # it is done
    last = begin(tmp_path / "part", recipe)
    assert last.wait() == 0
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert names == sorted(path.name for path in (tmp_path / "part").glob("*.safetensors"))
    for name in names:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert kills >= 5
