"""A run whose best member is a program, which cannot be fine-tuned into sub-classifiers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from ..conftest import Command

pytestmark = pytest.mark.ray

CONFIG = """
images:
  source: {{kind: digits}}
  split: {{train: 60, search: 80, test: 60}}
recipes:
  default: {{epochs: 1}}
members:
  - name: program
    source: "onnx:{file}"
    preprocessing: {{size: 8, resize: null, mean: [0, 0, 0], std: [1, 1, 1], interpolation: bilinear}}
  - {{name: resnet, source: {{kind: recipe, architecture: resnet14_small}}}}
subclassifiers: {{num_clusters: [2], recipe: default}}
cluster: {{device: cpu, hosts: 1, object_store_mb: 128}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logistic regression of the pixels, which a network of one epoch does not reach."""
    folder = tmp_path_factory.mktemp("program")
    images, labels = load_digits(return_X_y=True)
    fitted = LogisticRegression(max_iter=2000).fit(images / 16, labels)
    tensors = {
        "weight": np.tile(fitted.coef_ / 3, 3).astype(np.float32),
        "bias": fitted.intercept_.astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "weight", "bias"], ["y"], transB=1),
        ],
        "logistic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "best.onnx")
    path = folder / "run.yaml"
    path.write_text(CONFIG.format(file=folder / "best.onnx"))
    return path


@pytest.mark.nightly
def test_sub_classifiers_are_made_of_the_best_member_that_can_be_fine_tuned(
    command: Command, config: Path, tmp_path: Path
) -> None:
    done = command("run", config, "name=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    note = "program is the best member, and cannot be fine-tuned"
    assert note in done.stdout
    text = (tmp_path / "runs/r/report.json").read_text()
    assert json.loads(text)["subclassifiers"]["base"] == "resnet"
    assert note in text


@pytest.mark.parametrize(
    "words",
    [
        ["members.1={name: b, source: 'onnx:FILE', preprocessing: PRE}"],
        pytest.param(["subclassifiers.base=program"], marks=pytest.mark.nightly),
    ],
)
def test_a_config_without_a_member_that_can_be_fine_tuned_is_refused_before_anything_is_computed(
    command: Command, config: Path, tmp_path: Path, words: list[str]
) -> None:
    file = str(config.parent / "best.onnx")
    pre = "{size: 8, resize: null, mean: [0, 0, 0], std: [1, 1, 1], interpolation: bilinear}"
    words = [word.replace("FILE", file).replace("PRE", pre) for word in words]
    for verb in ("validate", "run"):
        done = command(verb, config, *words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "last linear layer" in done.stderr
        assert "predict:" not in done.stdout
