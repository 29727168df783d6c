"""What an artifact tells of itself: golden inputs, digests, requirements, the model card; and a lost member."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ensemble import predictor
from ensemble.artifact import write
from ensemble.artifact.about import About, Figure, Origin
from ensemble.artifact.from_table import NUM_IMAGES, golden_from_table
from ensemble.artifact.golden import compare, read_golden
from ensemble.artifact.sums import check_sums
from ensemble.errors import CheckpointError, DecodeError
from ensemble.evaluation import metrics
from ensemble.files import seal
from ensemble.outranking.weighting import Weighting
from ensemble.search.fallbacks import Fallback
from ensemble.subclassifiers.gates import entropy
from ensemble.subclassifiers.route import FittedRouting, Routing

CLASSES = tuple("0123456789")
WEIGHTS = np.array([60, 40])


def about(tiny_run: Any, routing: FittedRouting | None = None, temperature: float = 1.0) -> About:
    golden = golden_from_table(
        tiny_run.table,
        tiny_run.members,
        Weighting(WEIGHTS),
        routing,
        temperature,
        tiny_run.splits.test,
        tiny_run.decode,
    )
    return About(
        name="tonight",
        images=100,
        data="digits",
        figures=(
            Figure("best member", 1, {1: 12, 5: 1}, 0.4, None),
            Figure("the ensemble", 2, {1: 9, 5: 0}, 0.3, (-0.03, -0.06, 0.01), is_answer=True),
        ),
        origins={m.name: Origin(f"trained: {m.name}", "mine") for m in tiny_run.members},
        costs={
            m.name: {"seconds": 0.002, "flops": 3e6, "gpu_bytes": 0.0} for m in tiny_run.members
        },
        machine="a test",
        golden=golden,
    )


@pytest.fixture(scope="module")
def routing(tiny_run: Any) -> FittedRouting:
    image_ids = tiny_run.splits.test.image_ids
    rows = [tiny_run.table.read(member.column, image_ids) for member in tiny_run.members]
    base = metrics.average(rows, WEIGHTS)
    clusters = tuple(member.classes for member in tiny_run.subclassifiers)
    gate = Routing(clusters, (0, 1), float(np.quantile(entropy(base), 0.4)))
    return FittedRouting(gate, dict(enumerate(tiny_run.subclassifiers)), Weighting(WEIGHTS))


@pytest.fixture(scope="module")
def saved(tiny_run: Any, routing: FittedRouting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "ensemble"
    fallbacks = [
        Fallback(lost.name, {other.name: 1.0}, 0, 0)
        for lost, other in (tiny_run.members, tiny_run.members[::-1])
    ]
    write.save(
        folder,
        tiny_run.members,
        Weighting(WEIGHTS),
        CLASSES,
        "paper",
        routing,
        fallbacks,
        temperature=1.3,
        about=about(tiny_run, routing, 1.3),
    )
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "ensemble"))


def test_golden_answers_are_those_of_the_table_and_of_the_predictor_to_the_bit(saved: Path) -> None:
    golden = read_golden(saved)
    assert golden is not None
    assert len(golden.images) == NUM_IMAGES
    found = predictor.load(saved, equal_bits=True).predict(golden.images)
    assert found.probabilities.tobytes() == golden.probabilities.tobytes()
    assert np.array_equal(found.answers, golden.answers)
    assert found.routed.any()
    assert predictor.load(saved).replay().problems == ()


def test_golden_images_are_spread_over_the_split_and_no_image_twice(tiny_run: Any) -> None:
    golden = about(tiny_run).golden
    assert golden is not None
    ids = tiny_run.splits.test.image_ids.tolist()
    places = sorted(
        next(i for i, row in enumerate(tiny_run.pixels(ids)) if np.array_equal(row, image))
        for image in golden.images
    )
    assert len(set(places)) == NUM_IMAGES
    assert np.diff(places).max() < len(ids) / 4


def test_images_that_are_gone_give_no_golden_inputs(tiny_run: Any) -> None:
    def decode(image_id: str) -> np.ndarray:
        raise DecodeError("gone")

    golden = golden_from_table(
        tiny_run.table,
        tiny_run.members,
        Weighting(WEIGHTS),
        None,
        1.0,
        tiny_run.splits.test,
        decode,
    )
    assert golden is None


def test_other_weights_do_not_pass_for_the_golden_answers(copy: Path) -> None:
    document = json.loads((copy / "ensemble.json").read_text())
    for entry, units in zip(document["members"], (1, 99_999), strict=True):
        entry["weight_units"] = units
    document.pop("sha256")
    (copy / "ensemble.json").write_text(json.dumps(seal(document)))
    replay = predictor.load(copy).replay()
    assert replay.images == NUM_IMAGES
    assert replay.problems
    assert "a probability is off by" in replay.problems[0]


def test_an_answer_may_differ_only_where_two_classes_are_as_good_as_equal(tiny_run: Any) -> None:
    golden = about(tiny_run).golden
    assert golden is not None
    others = (golden.answers + 1) % 10
    sure = np.full_like(golden.probabilities, 0.05)
    sure[np.arange(NUM_IMAGES), golden.answers] = 0.55
    _, problems = compare(replace(golden, probabilities=sure), sure, others)
    assert len(problems) == NUM_IMAGES
    even = replace(golden, probabilities=np.full_like(golden.probabilities, 0.1))
    assert compare(even, even.probabilities, others) == (0.0, ())
    broken = golden.probabilities.copy()
    broken[2, 3] = np.nan
    assert "image 2" in compare(golden, broken, golden.answers)[1][0]


def test_digests_are_those_that_the_system_computes(saved: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=saved, capture_output=True, check=True
    )
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert len(done.stdout.splitlines()) == len(files) - 1
    assert check_sums(saved) == ()


@pytest.mark.parametrize("file", ["README.md", "golden/3.png", "requirements.txt", "costs.json"])
def test_every_file_that_changed_is_named(copy: Path, file: str) -> None:
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)
    (copy / "notes.txt").write_text("of mine")
    changed, foreign = check_sums(copy)
    assert changed.startswith(f"{file} was changed: its sha256 is ")
    assert foreign == "notes.txt is not in SHA256SUMS."
    (copy / file).unlink()
    assert check_sums(copy)[0] == f"{file} is missing."


def test_a_list_of_digests_that_leads_out_of_the_folder_is_refused(copy: Path) -> None:
    (copy / "SHA256SUMS").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(CheckpointError, match="outside its folder"):
        check_sums(copy)


def test_a_damaged_golden_input_is_named(copy: Path) -> None:
    (copy / "golden" / "2.png").write_bytes(b"no picture")
    with pytest.raises(
        CheckpointError, match=r"golden inputs .* the bytes of 2\.png are not those"
    ):
        predictor.load(copy).replay()


def test_requirements_name_the_versions_that_are_installed(saved: Path) -> None:
    lines = [
        line
        for line in (saved / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    names = {line.split("==")[0] for line in lines}
    assert names == {"numpy", "pillow", "safetensors", "torch", "torchvision"}
    assert all(re.fullmatch(r"[\w.-]+==[0-9][\w.]*", line) for line in lines)


def test_the_card_shows_figures_with_intervals_costs_and_licences(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["pipeline_tag"] == "image-classification"
    metric = header["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == pytest.approx(0.91)
    assert "9.00% [4.81%, 16.23%]" in card  # Wilson's interval of 9 of 100
    assert "| **the ensemble** (answers) | 2 |" in card
    assert "-3.00 [-6.00, +1.00]" in card
    assert "| resnet14_small | 0.0006 | 2 | 0.003 | trained: resnet14_small | mine |" in card
    assert "8 of the test images" in card


def test_an_artifact_of_version_3_is_read_as_before(copy: Path, saved: Path) -> None:
    document = json.loads((copy / "ensemble.json").read_text())
    for key in ("versions", "golden", "sha256"):
        document.pop(key)
    for entry in document["members"]:
        del entry["source"], entry["licence"]
    (copy / "ensemble.json").write_text(json.dumps(seal(document | {"schema_version": 3})))
    for path in ("golden", "SHA256SUMS", "README.md", "requirements.txt", "costs.json"):
        shutil.rmtree(copy / path) if (copy / path).is_dir() else (copy / path).unlink()
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    found, expected = (predictor.load(path).predict(images) for path in (copy, saved))
    assert found.probabilities.tobytes() == expected.probabilities.tobytes()
    assert predictor.load(copy).replay().images == 0
    assert check_sums(copy) == ()


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_the_others_are_reweighted_where_the_file_of_a_member_is_lost(
    copy: Path, saved: Path, how: str
) -> None:
    (path,) = copy.glob("members/alexnet_small-*")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError):
        predictor.load(copy)
    with pytest.warns(UserWarning, match=r"weights of 'alexnet_small' .* loss of 'alexnet_small'"):
        loaded = predictor.load(copy, missing="reweight")
    assert loaded.lost == "alexnet_small"
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    expected = predictor.load(saved, without="alexnet_small").predict(images)
    assert np.array_equal(loaded.predict(images).probabilities, expected.probabilities)
    next(copy.glob("members/resnet14_small-*")).unlink()
    with pytest.raises(CheckpointError, match=r"2 members are lost: .* loss of one member only"):
        predictor.load(copy, missing="reweight")


def test_nothing_is_reweighted_where_all_files_are_there(saved: Path) -> None:
    loaded = predictor.load(saved, missing="reweight")
    assert loaded.lost is None
    assert len(loaded.members) == 2
