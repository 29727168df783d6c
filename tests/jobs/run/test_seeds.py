import numpy as np

from ensemble.images.index import ImageIndex
from ensemble.training.task import TrainTask
from jobs.run.train import plan_training
from jobs.settings import RunConfig

INDEX = ImageIndex("made up", np.array(["a", "b"]), np.array([0, 1]), ("cat", "dog"))


def plan(**source: object) -> TrainTask:
    recipe = {"kind": "recipe", "architecture": "alexnet_small"} | source
    config = RunConfig.model_validate(
        {
            "name": "a",
            "images": {"source": {"kind": "digits"}},
            "recipes": {"default": {}},
            "members": [{"name": "m", "source": recipe}],
        }
    )
    return plan_training(config, config.members[0], INDEX, {}, {}, {})


def test_a_part_without_a_seed_has_that_of_the_member() -> None:
    whole, part = plan(seed=4), plan(seed=9, seeds={"start": 4, "augmentation": 2})
    assert part.start_seed == whole.start_seed
    assert part.order_seed == plan(seed=9).seed
    assert part.augmentation_seed == plan(seed=2).seed
    assert whole.seeds is None
