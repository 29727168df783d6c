"""The searches on real top-k predictions of ImageNet classifiers: fitted on one half, judged on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ensemble.errors import ConfigError
from ensemble.outranking import measures
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import SEARCHES, fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import finish
from ensemble.statistics import MeanSd, mean_sd
from jobs.benchmark.report import Begin

# AlexNet, ResNets of several depths (two of 50 layers), VGG, Inception v3 and Inception-ResNet v2 as
# in the paper's pool; what it has and the dump lacks is filled up with other families.
POOL = (
    "alexnet_pytorch",
    "squeezenet1_0_pytorch",
    "resnet18_pytorch",
    "resnet34_pytorch",
    "resnet50_pytorch",
    "resnet50_keras",
    "resnet152_pytorch",
    "vgg16_pytorch",
    "vgg19_bn_pytorch",
    "densenet201_pytorch",
    "inception_v3_pytorch",
    "inceptionresnetv2_keras",
    "nasnetmobile_keras",
)

NUM_CLASSES = 1000
ON_LOGS = " on logs"
"""Behind the key of a search, where its weights are of logarithms."""

_BLOCK_IMAGES = 1000


@dataclass(frozen=True)
class HalvesResult:
    """Errors of one predictor over the halves, as shares of images.

    Attributes:
        fitted: Error on the half that it was fitted on.
        held_out: Error on the other half.
        against_selected: Its held-out error minus that of `uniform_selected`, half by half.
        against_paper: Its held-out error minus that of `paper`, half by half.
        against_auto: Its held-out error minus that of `auto` on probabilities alone, half by half.
        nll: Negative log-likelihood on the other half, nats.
    """

    fitted: MeanSd
    held_out: MeanSd
    against_selected: MeanSd
    against_paper: MeanSd
    against_auto: MeanSd
    nll: MeanSd


def load_table(path: Path) -> OutrankingTable:
    """Build the outranking table of 13 members from top-k lists.

    The classes that a member does not list share what is missing to 1 evenly. A class that no member
    lists has the same score as every other such class, and never outranks a label that one member
    lists. So for each image only the listed classes and the label are kept, in class order: the
    errors are those of all 1000 classes.

    Raises:
        ConfigError: The file cannot be read, or lacks a member or an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["models"]]
            rows = [names.index(name) for name in POOL]
            classes = file["classes"][rows].astype(np.int64)
            probabilities = file["probabilities"][rows].astype(np.float64)
            labels = file["labels"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} does not hold the top-k predictions of {len(POOL)} members ({error}). Expected "
            "an .npz with models, classes, probabilities and labels."
        ) from error
    builder = OutrankingBuilder(POOL, 2, ("probabilities", "logs"), NUM_CLASSES)
    for first in range(0, len(labels), _BLOCK_IMAGES):
        part = slice(first, first + _BLOCK_IMAGES)
        builder.add(*_slots(classes[:, part], probabilities[:, part], labels[part]))
    return builder.finish()


def _slots(
    classes: Int[np.ndarray, "member image place"],
    probabilities: Float[np.ndarray, "member image place"],
    labels: Int[np.ndarray, " image"],
    num_classes: int = NUM_CLASSES,
) -> tuple[list[Float32[np.ndarray, "image slot"]], Int[np.ndarray, " image"]]:
    """Keep the classes that matter to each image, in class order; give the slot of the label."""
    members, images, places = classes.shape
    listed = np.concatenate(
        [classes.transpose(1, 0, 2).reshape(images, -1), labels[:, None]], axis=1
    )
    listed.sort(axis=1)
    # A class that stands there twice would outrank twice: the second time it is no class at all.
    is_new = np.ones(listed.shape, dtype=np.bool_)
    is_new[:, 1:] = listed[:, 1:] != listed[:, :-1]
    rest = np.maximum(1 - probabilities.sum(axis=2), 0) / (num_classes - places)
    columns = []
    for member in range(members):
        dense = np.repeat(rest[member][:, None], num_classes, axis=1)
        np.put_along_axis(dense, classes[member], probabilities[member], axis=1)
        kept = np.where(is_new, np.take_along_axis(dense, listed, axis=1), 0.0)
        with np.errstate(divide="ignore"):
            columns.append(np.log(kept).astype(np.float32))
    return columns, ((listed == labels[:, None]) & is_new).argmax(axis=1)


def halves(
    table: OutrankingTable, k: int, num_halves: int, seed: int, begin: Begin
) -> dict[str, HalvesResult]:
    """Fit every search on random halves of the images and judge it on the others."""
    rng = np.random.default_rng(seed)
    runs = []
    for number in range(1, num_halves + 1):
        begin(f"real predictions, top-{k}, halves {number} of {num_halves}")
        runs.append(_one(table, k, _random_half(table.num_images, rng)))
    return {
        key: HalvesResult(
            fitted=mean_sd([run[key][0] for run in runs]),
            held_out=mean_sd([run[key][1] for run in runs]),
            against_selected=_against(runs, key, "uniform_selected"),
            against_paper=_against(runs, key, "paper"),
            against_auto=_against(runs, key, "auto on probabilities"),
            nll=mean_sd([run[key][2] for run in runs]),
        )
        for key in runs[0]
    }


def _against(
    runs: Sequence[Mapping[str, tuple[float, float, float]]], key: str, other: str
) -> MeanSd:
    return mean_sd([run[key][1] - run[other][1] for run in runs])


def _random_half(num_images: int, rng: np.random.Generator) -> Bool[np.ndarray, " image"]:
    half = np.zeros(num_images, dtype=np.bool_)
    half[rng.permutation(num_images)[: num_images // 2]] = True
    return half


def _one(
    table: OutrankingTable, k: int, half: Bool[np.ndarray, " image"]
) -> dict[str, tuple[float, float, float]]:
    """Give error where fitted, held-out error and held-out NLL of each predictor."""
    search, test = (table.reweighted(part.astype(np.int64)) for part in (half, ~half))
    config = SearchConfig(k=k)
    kinds = [kind for kind in SEARCHES if kind != "auto"]
    ensembles = {kind: fit(search, config.model_copy(update={"kind": kind})) for kind in kinds}
    for kind in kinds:
        of_logs = config.model_copy(update={"kind": kind, "combine": "logs"})
        ensembles[f"{kind}{ON_LOGS}"] = fit(search, of_logs)
    ensembles["auto on probabilities"] = fit(search, SearchConfig(k=k, combine="probabilities"))
    ensembles["auto"] = fit(search, config)
    selected = np.where(ensembles["paper"].units > 0, WEIGHT_UNITS, 0)
    ensembles["uniform_selected"] = finish(search, config, "uniform", selected)
    return {key: _judged(test, ensemble) for key, ensemble in ensembles.items()}


def _judged(test: OutrankingTable, ensemble: Ensemble) -> tuple[float, float, float]:
    table = test.of(ensemble.combine)
    errors = table.errors(ensemble.units, ensemble.k)
    nll = measures.nll(table, ensemble.units, ensemble.scale)
    return ensemble.error, errors / table.num_counted, nll
