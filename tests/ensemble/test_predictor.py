import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ensemble import predictor
from ensemble.artifact import write
from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError, ConfigError, DecodeError, ShapeError, UnknownNameError
from ensemble.evaluation import metrics
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.reading import read_column
from ensemble.files import unseal
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import predict
from ensemble.members.member import in_precision
from ensemble.outranking.weighting import Weighting
from ensemble.predictor import Predictor
from ensemble.search.fallbacks import Fallback
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config
from ensemble.subclassifiers.answers import evaluate_routed
from ensemble.subclassifiers.gates import Gate, choose_cluster, entropy, score
from ensemble.subclassifiers.route import FittedRouting, Routing, is_routed_to
from ensemble.subclassifiers.settings import RoutingKind

CPU = torch.device("cpu")
# As the table has them: to the bit.
load = partial(predictor.load, equal_bits=True)
WEIGHTS = np.array([60, 40])
CLASSES = tuple("0123456789")


@dataclass(frozen=True)
class Saved:
    """An artifact with a gate, what it was made of, and the base's answers to the test images."""

    folder: Path
    fitted: FittedRouting
    base: np.ndarray


@pytest.fixture(scope="module")
def saved(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    image_ids = tiny_run.splits.test.image_ids
    rows = [tiny_run.table.read(member.column, image_ids) for member in tiny_run.members]
    base = metrics.average(rows, WEIGHTS)
    clusters = tuple(member.classes for member in tiny_run.subclassifiers)
    routing = Routing(clusters, (0, 1), float(np.quantile(entropy(base), 0.4)))
    fitted = FittedRouting(routing, dict(enumerate(tiny_run.subclassifiers)), Weighting(WEIGHTS))
    folder = tmp_path_factory.mktemp("run") / "ensemble"
    write.save(folder, tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper", fitted)
    return Saved(folder, fitted, base)


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.folder, tmp_path / "ensemble"))


def edit(folder: Path, old: str, new: str) -> None:
    document = folder / "ensemble.json"
    text = json.dumps(unseal(json.loads(document.read_text())), indent=2)
    assert old in text
    document.write_text(text.replace(old, new, 1))


@contextmanager
def counted_images() -> Iterator[Counter[int]]:
    """How many images, without the filler, reach a network; by its number of outputs."""
    seen: Counter[int] = Counter()

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(getattr(module, "head", None), nn.Linear):
            # The filler of a batch is one colour; no digit is.
            varies = inputs[0].flatten(2).std(dim=2).amax(dim=1) > 1e-6
            seen[module.head.out_features] += int(varies.sum())

    handle = register_module_forward_pre_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def test_saved_ensemble_says_what_the_table_says_to_the_bit(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    write.save(tmp_path / "plain", tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper")
    loaded = load(tmp_path / "plain")
    prediction = loaded.predict(tiny_run.pixels(tiny_run.splits.test.image_ids.tolist()))
    assert prediction.probabilities.tobytes() == saved.base.tobytes()
    assert np.array_equal(prediction.answers, saved.base.argmax(axis=1))
    assert not prediction.routed.any()
    assert loaded.classes == CLASSES
    assert [member.name for member in loaded.members] == [m.name for m in tiny_run.members]


def test_probabilities_are_at_the_temperature_of_the_artifact_and_answers_are_not_touched(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids.tolist())
    without = load(saved.folder).predict(pixels)
    write.save(
        tmp_path / "hot",
        tiny_run.members,
        Weighting(WEIGHTS),
        CLASSES,
        "paper",
        saved.fitted,
        temperature=2.0,
    )
    hot = load(tmp_path / "hot").predict(pixels)
    squares = hot.probabilities**2
    np.testing.assert_allclose(
        squares / squares.sum(axis=1, keepdims=True), without.probabilities, atol=1e-6
    )
    np.testing.assert_allclose(hot.probabilities.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(hot.answers, without.answers)
    assert np.array_equal(hot.routed, without.routed)


def test_members_answer_at_the_temperatures_that_they_had_in_the_run(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    first, second = tiny_run.members
    members = (replace(first, temperature=1.5), second)
    ids = tiny_run.splits.test.image_ids
    expected = metrics.average([read_column(tiny_run.table, m, ids) for m in members], WEIGHTS)
    assert not np.array_equal(expected, saved.base)
    write.save(tmp_path / "members", members, Weighting(WEIGHTS), CLASSES, "paper")
    loaded = load(tmp_path / "members")
    found = loaded.predict(tiny_run.pixels(ids.tolist()))
    assert found.probabilities.tobytes() == expected.tobytes()
    assert [member.temperature for member in loaded.members] == [1.5, 1.0]


@pytest.mark.parametrize("temperature", ["0.0", "-1.0", "Infinity"])
@pytest.mark.parametrize("whose", ["members", "all"])
def test_a_temperature_that_is_none_is_refused(copy: Path, whose: str, temperature: str) -> None:
    document = copy / "ensemble.json"
    content = unseal(json.loads(document.read_text()))
    changed = content["members"][0] if whose == "members" else content
    assert changed["temperature"] == 1.0
    changed["temperature"] = float(temperature)
    document.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="temperature"):
        load(copy)


def test_members_keep_the_precision_that_they_had_in_the_run(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    first, second = tiny_run.members
    halved = in_precision(first, "bfloat16")
    spec = plan_shards(tiny_run.splits.test.image_ids.tolist(), 100)[0]
    shard = ImageShard.pack(spec.image_ids, tiny_run.pixels(spec.image_ids))
    rows = [
        # As a host runs them.
        predict(
            PreparedNetwork(load_network(m), m.precision).eval(), m, shard, CPU
        ).log_probabilities
        for m in (halved, second)
    ]
    expected = metrics.average(rows, WEIGHTS)
    assert not np.array_equal(expected, saved.base)
    write.save(tmp_path / "halved", (halved, second), Weighting(WEIGHTS), CLASSES, "paper")
    loaded = load(tmp_path / "halved")
    found = loaded.predict(tiny_run.pixels(spec.image_ids)).probabilities
    assert found.tobytes() == expected.tobytes()
    assert [member.precision for member in loaded.members] == ["bfloat16", "float32"]
    assert [member.column for member in loaded.members] == [halved.column, second.column]


def test_an_artifact_of_version_2_averages_probabilities(saved: Saved, copy: Path) -> None:
    document = copy / "ensemble.json"
    content = unseal(json.loads(document.read_text()))
    content["schema_version"] = 2
    assert (content.pop("combine"), content.pop("scale")) == ("probabilities", 1.0)
    document.write_text(json.dumps(content))
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    found, expected = (load(path).predict(images) for path in (copy, saved.folder))
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()


def test_an_artifact_of_logarithms_predicts_what_the_run_judged(
    tiny_run: Any, tmp_path: Path
) -> None:
    weighting = Weighting(WEIGHTS, "logs", 1.5)
    fallback = Fallback(tiny_run.members[0].name, {tiny_run.members[1].name: 1.0}, 0, 0, 0.5)
    write.save(
        tmp_path / "logs",
        tiny_run.members,
        weighting,
        CLASSES,
        "likelihood",
        fallbacks=(fallback,),
    )
    ids = tiny_run.splits.test.image_ids.tolist()
    rows = [read_column(tiny_run.table, member, ids) for member in tiny_run.members]
    predictor = load(tmp_path / "logs", equal_bits=True)
    found = predictor.predict(tiny_run.pixels(ids))
    np.testing.assert_allclose(found.probabilities, metrics.pooled(rows, weighting), atol=1e-6)
    outcome = evaluate(tiny_run.table, tiny_run.members, tiny_run.splits.test, {"logs": weighting})
    assert (found.answers == outcome["logs"].answers).all()
    alone = metrics.pooled(rows[1:], Weighting(np.array([100_000]), "logs", 0.5))
    without = predictor.without(tiny_run.members[0].name).predict(tiny_run.pixels(ids))
    np.testing.assert_allclose(without.probabilities, alone, atol=1e-6)
    loaded = load(tmp_path / "logs", without=tiny_run.members[0].name, equal_bits=True)
    again = loaded.predict(tiny_run.pixels(ids))
    np.testing.assert_allclose(again.probabilities, alone, atol=1e-6)


def test_an_artifact_of_version_1_predicts_in_float32(saved: Saved, copy: Path) -> None:
    document = copy / "ensemble.json"
    content = unseal(json.loads(document.read_text()))
    content["schema_version"] = 1
    assert (content.pop("combine"), content.pop("scale")) == ("probabilities", 1.0)
    for entry in (*content["members"], *content["routing"]["subclassifiers"]):
        assert entry.pop("precision") == "float32"
    document.write_text(json.dumps(content))
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    found, expected = (load(path).predict(images) for path in (copy, saved.folder))
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()


def test_routed_answers_are_those_of_the_evaluation(tiny_run: Any, saved: Saved) -> None:
    test = tiny_run.splits.test
    prediction = load(saved.folder).predict(tiny_run.pixels(test.image_ids.tolist()))
    outcome, routed = evaluate_routed(tiny_run.table, tiny_run.members, test, saved.fitted)
    assert np.array_equal(prediction.routed, routed)
    assert 0 < routed.sum() < len(test)
    assert np.array_equal(prediction.answers, outcome.answers)
    found = Outcome.of(prediction.probabilities, test.labels)
    assert np.array_equal(found.label_probabilities, outcome.label_probabilities)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-6)


def test_only_the_images_of_its_label_cluster_reach_a_sub_classifier(
    tiny_run: Any, saved: Saved
) -> None:
    loaded = load(saved.folder)
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids.tolist())
    with counted_images() as seen:
        routed = loaded.predict(pixels).routed
    chosen = choose_cluster(saved.base, saved.fitted.routing.clusters)
    asked = {6: int((routed & (chosen == 0)).sum()), 4: int((routed & (chosen == 1)).sum())}
    # The members look at every image, under one view and under five.
    assert seen == Counter({10: len(pixels) * (1 + 5)} | asked)
    assert all(asked.values())


@pytest.mark.parametrize("kind", ["top2", "soft"])
@pytest.mark.parametrize("used", [(0, 1), (1,)])
@pytest.mark.parametrize("gate", [Gate("margin"), Gate("logistic", (1.0, 0.5, 2.0, 0.1, 0.3, 0.0))])
def test_every_gate_and_routing_is_loaded_as_it_was_evaluated(
    tiny_run: Any,
    saved: Saved,
    tmp_path: Path,
    kind: RoutingKind,
    used: tuple[int, ...],
    gate: Gate,
) -> None:
    clusters = saved.fitted.routing.clusters
    threshold = float(np.quantile(score(gate, saved.base, clusters), 0.7))
    routing = Routing(clusters, used, threshold, gate, kind)
    fitted = replace(saved.fitted, routing=routing)
    write.save(tmp_path / "kinds", tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper", fitted)
    test = tiny_run.splits.test
    loaded = load(tmp_path / "kinds")
    with counted_images() as seen:
        prediction = loaded.predict(tiny_run.pixels(test.image_ids.tolist()))
    outcome, routed = evaluate_routed(tiny_run.table, tiny_run.members, test, fitted)
    assert np.array_equal(prediction.routed, routed)
    assert np.array_equal(prediction.answers, outcome.answers)
    asked = is_routed_to(saved.base, routing).sum(axis=0)
    assert [seen[6], seen[4]] == asked.tolist()


def test_a_sub_classifier_of_no_label_cluster_is_refused(copy: Path) -> None:
    document = copy / "ensemble.json"
    content = unseal(json.loads(document.read_text()))
    content["routing"]["clusters"] = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    document.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="which are not one of its label clusters"):
        load(copy)
    content["routing"]["clusters"] = [[0, 1], [2, 2]]
    document.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected each of 10 once"):
        load(copy)


def test_an_artifact_that_lists_no_clusters_has_those_of_its_sub_classifiers(
    saved: Saved, copy: Path
) -> None:
    document = copy / "ensemble.json"
    content = unseal(json.loads(document.read_text()))
    for name in ("gate", "coefficients", "kind", "clusters"):
        del content["routing"][name]
    document.write_text(json.dumps(content))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    found, expected = (load(path).predict(images) for path in (copy, saved.folder))
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()


def test_images_are_answered_alike_together_and_one_by_one(tiny_run: Any, saved: Saved) -> None:
    loaded = load(saved.folder)
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[:6].tolist())
    together = loaded.predict(np.stack(pixels))
    for i, image in enumerate(pixels):
        alone = loaded.predict([image])
        assert alone.probabilities.tobytes() == together.probabilities[i : i + 1].tobytes()
        assert alone.answers[0] == together.answers[i]


def test_images_of_different_sizes_are_taken(saved: Saved) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, 5, 3), dtype=np.uint8) for side in (1, 8, 30)]
    assert load(saved.folder).predict(images).probabilities.shape == (3, 10)


def test_no_image_has_no_answer(saved: Saved) -> None:
    prediction = load(saved.folder).predict([])
    assert prediction.probabilities.shape == (0, 10)
    assert len(prediction.answers) == len(prediction.routed) == 0


def test_the_loss_of_a_member_has_weights_of_its_own(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    first, second = (member.name for member in tiny_run.members)
    fallbacks = [Fallback(first, {second: 1.0}, 3, 3)]
    folder = tmp_path / "ensemble"
    write.save(
        folder, tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper", saved.fitted, fallbacks
    )
    loaded = load(folder)
    alone = tmp_path / "alone"
    write.save(
        alone, tiny_run.members, Weighting(np.array([0, 100])), CLASSES, "paper", saved.fitted
    )
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids.tolist())
    left, expected = loaded.without(first), load(alone)
    next(folder.rglob(f"{first}-*.safetensors")).unlink()
    lost = load(folder, without=first)
    assert np.array_equal(lost.predict(pixels).probabilities, left.predict(pixels).probabilities)
    assert [member.name for member in left.members] == [second]
    for name in ("probabilities", "answers", "routed"):
        assert np.array_equal(
            getattr(left.predict(pixels), name), getattr(expected.predict(pixels), name)
        )
    assert [member.name for member in loaded.members] == [first, second]
    with pytest.raises(CheckpointError, match="no weights for the loss of"):
        loaded.without(second)
    with pytest.raises(UnknownNameError, match="member of the ensemble 'vgg'"):
        loaded.without("vgg")
    edit(folder, f'"{second}": 100000', '"resnet": 100000')
    with pytest.raises(CheckpointError, match="expected other members of"):
        load(folder)


def test_members_without_weight_are_left_out(tiny_run: Any, tmp_path: Path) -> None:
    write.save(tmp_path / "one", tiny_run.members, Weighting(np.array([0, 100])), CLASSES, "best")
    loaded = load(tmp_path / "one")
    assert [member.name for member in loaded.members] == [tiny_run.members[1].name]
    assert len(list((tmp_path / "one").rglob("*.safetensors"))) == 1


def test_gate_that_never_opens_is_left_out(tiny_run: Any, saved: Saved, tmp_path: Path) -> None:
    shut = replace(saved.fitted, routing=replace(saved.fitted.routing, threshold=np.inf))
    write.save(tmp_path / "shut", tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper", shut)
    assert json.loads((tmp_path / "shut" / "ensemble.json").read_text())["routing"] is None
    assert len(list((tmp_path / "shut").rglob("*.safetensors"))) == 2


def test_member_may_be_called_like_a_sub_classifiers_file(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    names = ("subclassifier-0", "0")
    members = [replace(m, name=n) for m, n in zip(tiny_run.members, names, strict=True)]
    write.save(tmp_path / "named", members, Weighting(WEIGHTS), CLASSES, "paper", saved.fitted)
    assert [member.name for member in load(tmp_path / "named").members] == list(names)


def test_saving_again_replaces_the_whole_folder_and_gives_the_same_bytes(
    tiny_run: Any, saved: Saved, copy: Path
) -> None:
    (copy / "left-over").write_text("of an earlier run")
    write.save(copy, tiny_run.members, Weighting(WEIGHTS), CLASSES, "paper", saved.fitted)

    def content(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    assert content(copy) == content(saved.folder)
    assert [path.name for path in copy.parent.iterdir()] == ["ensemble"]


@pytest.mark.parametrize("part", ["members/alexnet_small", "subclassifiers/1"])
def test_changed_weights_are_refused(copy: Path, part: str) -> None:
    (path,) = copy.glob(f"{part}-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{part}.* is not the file that was saved: its sha"):
        load(copy)


def test_missing_weights_are_named(copy: Path) -> None:
    next(copy.glob("members/alexnet_small-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"alexnet_small-\w+\.safetensors: cannot be read"):
        load(copy)


@pytest.mark.parametrize("way", ["../alexnet_small", "members/../../x", "{root}/x"])
def test_file_outside_the_folder_is_refused(copy: Path, way: str) -> None:
    outside = way.format(root=copy.parent)
    edit(copy, "members/alexnet_small", outside)
    with pytest.raises(CheckpointError, match=r"ensemble\.json names '.*', outside its folder"):
        load(copy)


def test_link_out_of_the_folder_is_refused(copy: Path) -> None:
    (path,) = copy.glob("members/alexnet_small-*.safetensors")
    path.rename(copy.parent / "elsewhere.safetensors")
    path.symlink_to(copy.parent / "elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="outside its folder"):
        load(copy)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"cannot read .*nowhere/ensemble\.json: No such file.*folder of a run",
    ):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"schema_version": 5', '"schema_version": 6', r"is not an ensemble: .*schema_version"),
        ('"search"', '"serach"', r"is not an ensemble: .*serach"),
        ("{", "", "is not an ensemble: .*Invalid JSON"),
        ('"0",\n    "1"', '"0"', r"says \[0, 1, 2, 3, 4, 5, 6, 7, 8\]"),
        ('"threshold": ', '"threshold": -1e999, "threshold_": ', "is not an ensemble"),
    ],
)
def test_document_that_is_not_an_ensemble_is_refused(
    copy: Path, old: str, new: str, match: str
) -> None:
    edit(copy, old, new)
    with pytest.raises(CheckpointError, match=f"(?s){match}"):
        load(copy)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (
            np.zeros((8, 8, 3), np.float32),
            r"image 1 is float32 \[8, 8, 3\]; expected .* array uint8",
        ),
        (
            np.zeros((8, 8), np.uint8),
            r"image 1 is uint8 \[8, 8\]; expected .* uint8 \[height, width",
        ),
        (np.zeros((8, 8, 4), np.uint8), r"image 1 is uint8 \[8, 8, 4\]"),
        (np.zeros((3, 8, 8), np.uint8), r"image 1 is uint8 \[3, 8, 8\]"),
        (np.zeros((0, 8, 3), np.uint8), r"image 1 is uint8 \[0, 8, 3\]"),
    ],
)
def test_image_of_another_kind_is_refused(saved: Saved, image: np.ndarray, match: str) -> None:
    loaded: Predictor = load(saved.folder)
    with pytest.raises(ShapeError, match=match):
        loaded.predict([np.zeros((8, 8, 3), np.uint8), image])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_artifact_on_s3_predicts_like_the_one_on_disk(
    saved: Saved, tiny_run: Any, moto_port: int
) -> None:
    storage = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    store = open_store("s3://tables/artifact", storage)
    for path in saved.folder.rglob("*"):
        if path.is_file():
            store.replace(path.relative_to(saved.folder).as_posix(), path.read_bytes())
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[:10])
    far, near = load("s3://tables/artifact", storage), load(saved.folder)
    assert (far.predict(pixels).probabilities == near.predict(pixels).probabilities).all()
    assert all(member.checkpoint.exists() for member in far.members)
    other, name = (
        next(saved.folder.glob(f"members/{member.name}-*")).relative_to(saved.folder).as_posix()
        for member in far.members
    )
    store.replace(name, store.read(other))
    with pytest.raises(CheckpointError, match="is not the file that was saved"):
        load("s3://tables/artifact", storage)
    store.remove(name)
    with pytest.raises(CheckpointError, match=r"s3://tables/artifact cannot be loaded: .*no such"):
        load("s3://tables/artifact", storage)


def test_one_image_costs_one_image_unless_equal_bits_are_wanted(
    tiny_run: Any, saved: Saved
) -> None:
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[:5].tolist())
    sizes: list[int] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, PreparedNetwork):
            sizes.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(note)
    quick = predictor.load(saved.folder).predict(pixels[0])
    exact = load(saved.folder).predict(pixels)
    handle.remove()
    assert min(sizes) == 1
    assert max(sizes) == 64
    np.testing.assert_allclose(quick.probabilities[0], exact.probabilities[0], atol=1e-5)


def test_a_path_bytes_a_pil_image_an_array_and_a_tensor_give_one_answer(
    tiny_run: Any, saved: Saved, tmp_path: Path
) -> None:
    (pixels,) = tiny_run.pixels(tiny_run.splits.test.image_ids[:1].tolist())
    image = Image.fromarray(pixels)
    path = tmp_path / "digit.png"
    image.save(path)
    loaded = load(saved.folder)
    expected = loaded.predict(pixels)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    for one in (
        path,
        str(path),
        path.read_bytes(),
        image,
        [pixels],
        tensor,
        pixels[None],
        tensor[None],
    ):
        prediction = loaded.predict(one)
        np.testing.assert_array_equal(prediction.probabilities, expected.probabilities)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (b"<html>", DecodeError, r"image 0 \(6 bytes\) cannot be decoded"),
        ("nowhere.png", DecodeError, r"image 0 \(nowhere.png\) cannot be decoded"),
        (3, ShapeError, "image 0 is int; expected a path"),
        ([None], ShapeError, "image 0 is NoneType; expected a path"),
        (torch.zeros(3, 8, 8), ShapeError, r"image 0 is torch.float32 \[3, 8, 8\]"),
    ],
)
def test_what_is_no_image_is_named(
    saved: Saved, image: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(saved.folder).predict(image)


def test_an_answer_is_explained_by_the_votes_of_the_members(tiny_run: Any, saved: Saved) -> None:
    prediction = load(saved.folder).predict(
        tiny_run.pixels(tiny_run.splits.test.image_ids[:20].tolist())
    )
    assert prediction.labels == tuple(CLASSES[answer] for answer in prediction.answers)
    explanation = prediction.explain(3)
    assert explanation.answer == prediction.labels[3]
    assert explanation.routed == prediction.routed[3]
    for name, (label, probability) in explanation.votes.items():
        row = prediction.by_member[name][3]
        assert CLASSES.index(label) == row.argmax()
        assert probability == row.max()
    for row, best in zip(prediction.probabilities, prediction.top(3), strict=True):
        assert [value for _, value in best] == sorted(row.tolist(), reverse=True)[:3]


def test_a_device_that_is_not_there_is_named(saved: Saved) -> None:
    with pytest.raises(ConfigError, match="no device 'tpu9'"):
        predictor.load(saved.folder, device="tpu9")
    with pytest.raises(ConfigError, match=r"no device 'cuda:99': torch .* sees \d+ GPUs"):
        predictor.load(saved.folder, device="cuda:99")
