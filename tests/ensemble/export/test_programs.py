"""Exports: what the written file answers, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ensemble import predictor
from ensemble.artifact import write
from ensemble.artifact.about import About
from ensemble.artifact.golden import Golden, read_golden
from ensemble.artifact.sums import check_sums
from ensemble.errors import CheckpointError, ConfigError
from ensemble.export import folders, programs
from ensemble.export.mlflow_loader import _load_pyfunc
from ensemble.export.parity import BATCHES, choose_size, make_check
from ensemble.outranking.combine import Combine
from ensemble.outranking.weighting import Weighting
from ensemble.predictor import Predictor
from ensemble.views.settings import CenterView, DenseViews, FlipViews, Views

CLASSES = tuple("0123456789")


def save(
    tiny_run: Any,
    folder: Path,
    views: tuple[Views, Views] = (CenterView(), FlipViews(average="geometric")),
    combine: Combine = "probabilities",
    temperatures: tuple[float, float, float] = (1.2, 1.0, 0.9),
) -> Path:
    members = tuple(
        replace(member, views=view, temperature=temperature)
        for member, view, temperature in zip(tiny_run.members, views, temperatures, strict=False)
    )
    weighting = Weighting(np.array([60_000, 40_000]), combine, 0.8 if combine == "logs" else 1.0)
    pixels = tuple(tiny_run.pixels(tiny_run.splits.test.image_ids[:8].tolist()))
    place = folder / "ensemble"

    def write_with(golden: Golden | None) -> None:
        about = About(golden=golden)
        write.save(place, members, weighting, CLASSES, "paper", None, (), temperatures[2], about)

    write_with(None)
    found = predictor.load(place).predict(pixels)
    write_with(Golden(pixels, found.probabilities, found.answers, 1e-3))
    return place


def golden_of(folder: Path) -> Golden:
    golden = read_golden(folder)
    assert golden is not None
    return golden


def answer_module(loaded: Predictor, pixels: list[np.ndarray]) -> np.ndarray:
    batch = torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2) / np.float32(255))
    with torch.inference_mode():
        return loaded.module()(batch).numpy()


@pytest.mark.parametrize("combine", ["probabilities", "logs"])
def test_the_plain_module_answers_as_the_predictor_does_for_images_of_any_size(
    tiny_run: Any, tmp_path: Path, combine: Combine
) -> None:
    views = tuple(member.views for member in tiny_run.members)
    for number, chosen in enumerate([views, (FlipViews(average="geometric"), CenterView())]):
        loaded = predictor.load(save(tiny_run, tmp_path / str(number), chosen, combine))
        rng = np.random.default_rng(0)
        for height, width in ((8, 8), (21, 13)):
            pixels = list(rng.integers(0, 256, (3, height, width, 3), dtype=np.uint8))
            expected = loaded.predict(pixels).probabilities
            np.testing.assert_allclose(answer_module(loaded, pixels), expected, atol=1e-5)


def test_a_program_of_torch_takes_any_number_of_images_and_answers_as_the_artifact(
    tiny_run: Any, tmp_path: Path
) -> None:
    loaded = predictor.load(save(tiny_run, tmp_path))
    check = make_check(loaded, golden_of(loaded.artifact.folder), (8, 8))
    path = tmp_path / "out" / "program.pt2"
    assert programs.export_pt2(loaded, path, check, (8, 8)) < 1e-5
    extra = {"classes.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    assert tuple(json.loads(extra["classes.json"])) == CLASSES
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[20:25].tolist())
    batch = torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2) / np.float32(255))
    expected = loaded.predict(pixels).probabilities
    np.testing.assert_allclose(program(batch).detach().numpy(), expected, atol=1e-5)
    assert [file.name for file in path.parent.iterdir()] == ["program.pt2"]


@pytest.mark.parametrize("views", ["quick", pytest.param("of the run", marks=pytest.mark.nightly)])
def test_an_onnx_graph_takes_any_number_of_images_and_answers_as_the_artifact(
    tiny_run: Any, tmp_path: Path, views: str
) -> None:
    pytest.importorskip("onnxscript")
    import onnxruntime

    chosen = (CenterView(), FlipViews(average="geometric"))
    if views != "quick":
        chosen = tuple(member.views for member in tiny_run.members)
    loaded = predictor.load(save(tiny_run, tmp_path, chosen))
    check = make_check(loaded, golden_of(loaded.artifact.folder), (8, 8))
    path = tmp_path / "program.onnx"
    assert programs.export_onnx(loaded, path, check, (8, 8)) < 1e-4
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert tuple(json.loads(session.get_modelmeta().custom_metadata_map["classes"])) == CLASSES
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[20:25].tolist())
    batch = (np.stack(pixels).transpose(0, 3, 1, 2) / 255).astype(np.float32)
    (found,) = session.run(None, {"images": batch})
    np.testing.assert_allclose(found, loaded.predict(pixels).probabilities, atol=1e-4)


def test_a_program_that_answers_otherwise_is_not_kept(tiny_run: Any, tmp_path: Path) -> None:
    loaded = predictor.load(save(tiny_run, tmp_path))
    check = make_check(loaded, golden_of(loaded.artifact.folder), (8, 8))
    assert check.run(lambda batch: check.expected[: len(batch)], "same") == 0
    for wrong, message in (
        (lambda batch: check.expected[: len(batch)] + 0.01, r"other is off by 0\.01 at 1 images"),
        (lambda batch: check.expected[: len(batch)] * np.nan, "other is off by nan"),
        (lambda batch: check.expected[:1], r"gives \[1, 10\] for 3 images.*batch became fixed"),
    ):
        with pytest.raises(CheckpointError, match=message):
            check.run(wrong, "other")
    path = tmp_path / "program.pt2"
    off = replace(check, expected=check.expected[::-1])
    with pytest.raises(CheckpointError, match="it is not kept"):
        programs.export_pt2(loaded, path, off, (8, 8))
    assert not path.exists()
    assert max(BATCHES) == len(check.batch)


def test_the_size_of_a_program_is_that_of_the_golden_inputs_or_of_the_largest_member(
    tiny_run: Any, tmp_path: Path
) -> None:
    loaded = predictor.load(save(tiny_run, tmp_path))
    images = golden_of(loaded.artifact.folder).images
    assert choose_size(loaded, images, None) == (8, 8)
    assert choose_size(loaded, (*images, np.zeros((9, 8, 3), np.uint8)), None) == (16, 16)
    assert choose_size(loaded, images, (5, 7)) == (5, 7)
    with pytest.raises(ConfigError, match="0x7 is that of no image"):
        choose_size(loaded, images, (0, 7))


def test_what_cannot_become_one_module_is_refused(tiny_run: Any, tmp_path: Path) -> None:
    dense = predictor.load(save(tiny_run, tmp_path, (CenterView(), DenseViews())))
    with pytest.raises(ConfigError, match="'alexnet_small' looks at whole images"):
        dense.module()


def test_weights_in_one_file_are_those_of_the_members(tiny_run: Any, tmp_path: Path) -> None:
    loaded = predictor.load(save(tiny_run, tmp_path))
    count = folders.export_safetensors(loaded, tmp_path / "all.safetensors")
    tensors = load_file(tmp_path / "all.safetensors")
    assert len(tensors) == count
    for member in loaded.members:
        state = loaded.network_of(member).state_dict()
        theirs = {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(member.name)}
        assert theirs.keys() == state.keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in state.items())


def test_a_folder_for_the_hub_is_an_artifact_with_a_card(tiny_run: Any, tmp_path: Path) -> None:
    loaded = predictor.load(save(tiny_run, tmp_path))
    assert folders.export_hub(loaded, tmp_path / "hub") == ()
    assert (tmp_path / "hub" / "README.md").read_text().startswith("---\npipeline_tag: image-cl")
    assert check_sums(tmp_path / "hub") == ()
    assert predictor.load(tmp_path / "hub").replay().problems == ()
    assert list(tmp_path.glob(".hub*")) == []


def test_mlflow_loads_the_artifact_by_a_module(tiny_run: Any, tmp_path: Path) -> None:
    folder = save(tiny_run, tmp_path)
    pixels = tiny_run.pixels(tiny_run.splits.test.image_ids[:3].tolist())
    found = _load_pyfunc(str(folder)).predict(pixels)
    assert np.array_equal(found, predictor.load(folder).predict(pixels).probabilities)
