"""Faults on real images, n = 10,000: each is found, and the member that has it is blamed without a forward pass.

The environment variable ENSEMBLE_TEST_DATA names a folder with cifar100/train.parquet and
cifar100/test.parquet (columns `image`, encoded, and `label`); without it the test skips itself.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional

from ensemble.artifact.document import ArtifactDocument, MemberEntry
from ensemble.images.index import ImageIndex
from ensemble.nightly.blame import blame
from ensemble.nightly.deployment import Deployment, evaluate
from ensemble.nightly.members import compare_members, worse_members
from ensemble.nightly.verdict import collect, judge, nightly_level
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import CenterView

DATA = Path(os.environ.get("ENSEMBLE_TEST_DATA", "no such folder")) / "cifar100"
TRAINED, JUDGED = 10_000, 10_000

pytestmark = pytest.mark.nightly


@cache
def _cifar(part: str) -> tuple[np.ndarray, np.ndarray]:
    """10,000 images `[image, 3, 32, 32]` in [0, 1], and their labels."""
    table = pq.read_table(DATA / f"{part}.parquet").slice(0, TRAINED)
    images = [np.asarray(Image.open(BytesIO(i.as_py()))) for i in table["image"]]
    pixels = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return pixels, table["label"].to_numpy()


@dataclass(frozen=True)
class PatchModel:
    """Random patches of training images as filters, pooled, and a ridge regression on them."""

    seed: int
    num_trained: int = TRAINED
    side: int = 6

    def features(self, pixels: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        images, _ = _cifar("train")
        rows, at = rng.integers(0, TRAINED, 120), rng.integers(0, 32 - self.side, (120, 2))
        patches = np.stack(
            [
                images[i, :, y : y + self.side, x : x + self.side]
                for i, (y, x) in zip(rows, at, strict=True)
            ]
        )
        # A third keeps its mean, so that a member sees how bright an image is, as networks do.
        patches[40:] -= patches[40:].mean(axis=(1, 2, 3), keepdims=True)
        patches /= np.sqrt((patches**2).sum(axis=(1, 2, 3), keepdims=True)) + 1e-3
        kernel, out = torch.from_numpy(patches), []
        for start in range(0, len(pixels), 500):
            maps = functional.conv2d(
                torch.from_numpy(pixels[start : start + 500]), kernel, stride=2
            )
            both = torch.cat([functional.relu(maps - 0.1), functional.relu(-maps - 0.1)], dim=1)
            out.append(functional.adaptive_avg_pool2d(both, 2).flatten(1).numpy())
        return np.concatenate(out)

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _fitted(self)

    def logs(self, pixels: np.ndarray) -> np.ndarray:
        mean, scale, weights = self.weights
        scores = 12 * ((self.features(pixels) - mean) / scale) @ weights
        scores -= scores.max(axis=1, keepdims=True)
        return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


@cache
def _fitted(model: PatchModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels, labels = _cifar("train")
    features = model.features(pixels[: model.num_trained])
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-4
    z = (features - mean) / scale
    targets = np.eye(100)[labels[: model.num_trained]] - 0.01
    return mean, scale, np.linalg.solve(z.T @ z + 200 * np.eye(z.shape[1]), z.T @ targets)


def _faults(model: PatchModel) -> Iterator[tuple[str, np.ndarray]]:
    """What a member gives after each fault."""
    pixels, labels = _cifar("test")
    crop = pixels[:, :, 5:-5, 5:-5].repeat(2, axis=2).repeat(2, axis=3)[:, :, 6:38, 6:38]
    yield "crop", model.logs(np.ascontiguousarray(crop))
    yield "channels", model.logs(np.ascontiguousarray(pixels[:, ::-1]))
    yield "mean", model.logs(pixels * 0.5 + 0.4)
    logs = model.logs(pixels)
    hits = np.bincount(labels[logs.argmax(axis=1) == labels], minlength=100)
    first, second = np.argsort(-hits)[:2]
    order = np.arange(100)
    order[[first, second]] = second, first
    yield "two classes exchanged", logs[:, order]
    yield "weights rolled back", PatchModel(model.seed, 2500, model.side).logs(pixels)


@dataclass(frozen=True)
class _Computation:
    name: str
    column: str
    identity: dict[str, object]


def _commit(table: LogitTable, column: str, logs: np.ndarray) -> str:
    ids = np.array([f"i{i}" for i in range(len(logs))])
    block = LogitBlock(column, ids, logs, (), 1.0, len(logs), device_kind="cpu")
    table.commit(_Computation(column, column, {"column": column}), block)
    return column


def _document(names: tuple[str, ...], classes: int) -> ArtifactDocument:
    return ArtifactDocument(
        classes=tuple(map(str, range(classes))),
        data_sha256="0" * 64,
        search="uniform",
        members=tuple(
            MemberEntry(name=n, file=n, sha256=n, weight_units=1, views=CenterView()) for n in names
        ),
    )


@pytest.mark.skipif(not DATA.exists(), reason="ENSEMBLE_TEST_DATA names no folder with CIFAR-100")
def test_faults_on_real_images_are_found_and_their_member_blamed(tmp_path: Path) -> None:
    """Three members of two pools, five faults each; the other members change by their rounding, too."""
    _, labels = _cifar("test")
    ids = np.array([f"i{i}" for i in range(JUDGED)])
    images = ImageIndex("cifar100", ids, labels, tuple(map(str, range(100))))
    level, outcomes = nightly_level(1.0), Counter[str]()
    number = 0
    for pool in range(2):
        table = LogitTable(tmp_path / f"table{pool}")
        models = {f"m{i}": PatchModel(10 * pool + i, side=(5, 6, 7)[i]) for i in range(3)}
        good, rounded = {}, {}
        for name, model in models.items():
            logs = model.logs(_cifar("test")[0])
            noise = np.random.default_rng(model.seed).normal(size=logs.shape) * 1e-3
            number += 2
            good[name] = _commit(table, f"{number:016x}", logs)
            rounded[name] = _commit(
                table, f"{number + 1:016x}", np.minimum(logs + noise, 0).astype(np.float32)
            )
        document = _document(tuple(models), 100)
        before = Deployment(document, good)
        then = evaluate(table, before, images)
        for name, model in models.items():
            for fault, logs in _faults(model):
                number += 2
                column = _commit(table, f"{number:016x}", logs)
                after = Deployment(document, {**rounded, name: column})
                evidence = collect("top1_error", then, evaluate(table, after, images))
                # As a night does by default: the ensemble's gate and the members' share the level.
                changes = compare_members(table, before, after, images)
                judgement, *judgements = judge(
                    [evidence, *(change.summary for change in changes)],
                    [0.005, *[0.01] * len(changes)],
                    level,
                )
                alarms = [
                    change.name
                    for change, judged in zip(changes, judgements, strict=True)
                    if judged.verdict == "regressed"
                ]
                worse = [member.change.name for member in worse_members(changes, level)]
                is_regressed = judgement.verdict == "regressed"
                culprit = worse[0] if worse else None
                if is_regressed:
                    culprit = blame(table, before, after, images, "top1_error")[0].part
                outcomes["all"] += 1
                outcomes["of the ensemble"] += is_regressed
                outcomes["alerts"] += is_regressed or bool(alarms)
                outcomes["wrong alerts"] += len(set(alarms) - {name})
                outcomes["found"] += is_regressed or bool(worse)
                outcomes["blamed"] += culprit == name
                outcomes["wrongly named"] += len(set(worse) - {name})
                print(
                    f"{pool}/{name} {fault}: {100 * evidence.loss:+.2f} points, {judgement.verdict}; worse by "
                    f"itself: {', '.join(worse) or 'none'}, alert for {', '.join(alarms) or 'none'}; "
                    f"blamed {culprit}"
                )
    print(f"error of the pools {then.is_error(1).mean():.2%}; {dict(outcomes)}")
    assert outcomes["found"] >= 0.95 * outcomes["all"]
    assert outcomes["blamed"] >= 0.95 * outcomes["all"]
    assert outcomes["alerts"] >= 0.95 * outcomes["all"]
    assert not outcomes["wrongly named"]
    assert not outcomes["wrong alerts"]
