"""Members that are programs: what they say equals what the network said that they were made of."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ensemble.checkpoints.header import read_metadata
from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member

from .conftest import PREPROCESSING, Import, Probabilities, Tiny, answers


def to_onnx(network: Tiny, path: Path, batch: int | None, ending: str | None = None) -> str:
    """The graph of a tiny network, written by hand: torch's own exporter needs another package."""
    tensors = {
        name.replace(".", "_"): tensor.detach().numpy()
        for name, tensor in network.state_dict().items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv_weight", "conv_bias"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc_weight", "fc_bias"], ["y"], transB=1),
    ]
    if ending:
        nodes.append(helper.make_node(ending, ["y"], ["s"]))
    size = batch or "n"
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 3, 32, 32])],
        [
            helper.make_tensor_value_info(
                "s" if ending else "y", TensorProto.FLOAT, [size, network.fc.out_features]
            )
        ],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return f"onnx:{path}"


def to_pt2(network: nn.Module, path: Path, batch: int | None) -> str:
    dynamic = None if batch else ({0: torch.export.Dim("image", max=4096)},)
    images = torch.rand(batch or 2, 3, 32, 32)
    exported = torch.export.export(network.eval(), (images,), dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    torch.export.save(exported, buffer)
    path.write_bytes(buffer.getvalue())
    return f"pt2:{path}"


def assert_same(member: Member, network: nn.Module, shard: ImageShard) -> None:
    images = torch.rand(5, 3, 32, 32)
    loaded = load_network(member)
    with torch.inference_mode():
        expected = network.eval()(images)
        if isinstance(network, Probabilities):
            expected = expected.log()
        torch.testing.assert_close(loaded(images).log_softmax(1), expected.log_softmax(1))
    assert answers(member, shard).shape == (2, 7)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_onnx_graph_is_a_member(
    bring: Import, tmp_path: Path, photographs: ImageShard, batch: int | None
) -> None:
    network = Tiny()
    member = bring(to_onnx(network, tmp_path / "a.onnx", batch), preprocessing=PREPROCESSING)
    assert_same(member, network, photographs)
    assert (member.architecture, member.head) == ("onnx", "")
    assert member.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_graph_that_ends_in_a_softmax_is_not_squashed_twice(
    bring: Import, tmp_path: Path, photographs: ImageShard
) -> None:
    network = Probabilities()
    source = to_onnx(network, tmp_path / "a.onnx", None, "Softmax")
    assert_same(bring(source, preprocessing=PREPROCESSING), network, photographs)


def test_graph_that_ends_in_a_sigmoid_gives_its_log_odds(bring: Import, tmp_path: Path) -> None:
    network = Tiny()
    source = to_onnx(network, tmp_path / "a.onnx", None, "Sigmoid")
    member = bring(source, preprocessing=PREPROCESSING)
    images = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(load_network(member)(images), network(images))
    assert "sigmoids" in read_metadata(member.checkpoint)["notes"]


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_of_logits_is_not_taken_for_another(
    bring: Import, tmp_path: Path, seed: int
) -> None:
    torch.manual_seed(seed)
    network = Tiny()
    with torch.no_grad():
        network.fc.bias.fill_(0.5)  # so that small images have outputs from 0 to 1
    member = bring(to_onnx(network, tmp_path / "a.onnx", None), preprocessing=PREPROCESSING)
    assert "notes" not in read_metadata(member.checkpoint)


def test_graph_with_weights_in_another_file_is_refused(bring: Import, tmp_path: Path) -> None:
    source = to_onnx(Tiny(), tmp_path / "whole.onnx", None)
    model = onnx.load(tmp_path / "whole.onnx")
    for all_tensors in (True, False):
        onnx.save_model(
            model,
            tmp_path / "a.onnx",
            save_as_external_data=True,
            all_tensors_to_one_file=all_tensors,
            location="a.data" if all_tensors else None,
            size_threshold=0,
        )
        with pytest.raises(CheckpointError, match=r"weights in another file .*onnx\.save_model"):
            bring(f"onnx:{tmp_path / 'a.onnx'}", preprocessing=PREPROCESSING)
    assert bring(source, preprocessing=PREPROCESSING).architecture == "onnx"


def test_graph_with_a_constant_in_another_file_is_refused(bring: Import, tmp_path: Path) -> None:
    to_onnx(Tiny(), tmp_path / "a.onnx", None)
    model = onnx.load(tmp_path / "a.onnx")
    constant = numpy_helper.from_array(np.ones(1, np.float32), "one")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=constant))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"weights in another file \(/etc/passwd\)"):
        bring(f"onnx:{tmp_path / 'a.onnx'}", preprocessing=PREPROCESSING)


def test_graph_with_nan_in_its_weights_is_refused(bring: Import, tmp_path: Path) -> None:
    network = Tiny()
    with torch.no_grad():
        network.fc.weight[0, 0] = torch.nan
    with pytest.raises(
        CheckpointError, match="the weights of the ONNX graph hold NaN, as 'fc_weight'"
    ):
        bring(to_onnx(network, tmp_path / "a.onnx", None), preprocessing=PREPROCESSING)


def test_outputs_of_a_program_are_put_in_order(
    bring: Import, tmp_path: Path, photographs: ImageShard
) -> None:
    network = Tiny(8)
    source = to_onnx(network, tmp_path / "a.onnx", None)
    member = bring(source, preprocessing=PREPROCESSING, label_map="background_first")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(load_network(member)(images), network(images)[:, 1:])


@pytest.mark.parametrize("batch", [None, 2])
def test_exported_program_is_a_member_if_it_is_trusted(
    bring: Import, tmp_path: Path, photographs: ImageShard, batch: int | None
) -> None:
    network = Tiny()
    source = to_pt2(network, tmp_path / "a.pt2", batch)
    with pytest.raises(CheckpointError, match=r"runs code of its own \(pt2\)"):
        bring(source, preprocessing=PREPROCESSING)
    member = bring(source, trust_code=True, preprocessing=PREPROCESSING)
    assert_same(member, network, photographs)
    assert member.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("content", [b"", b"not a program", b"\x08\x08"])
def test_file_that_is_no_program_is_refused(
    bring: Import, tmp_path: Path, kind: str, content: bytes
) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        bring(f"{kind}:{tmp_path / 'a'}", trust_code=True, preprocessing=PREPROCESSING)


def test_program_of_another_input_is_refused(bring: Import, tmp_path: Path) -> None:
    source = to_onnx(Tiny(), tmp_path / "a.onnx", None)
    with pytest.raises(CheckpointError, match=r"cannot be run on images \[8, 3, 40, 40\].*size"):
        bring(source, preprocessing=PREPROCESSING | {"size": 40})


def test_program_that_is_not_there_is_named(bring: Import, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.onnx"):
        bring(f"onnx:{tmp_path / 'none.onnx'}", preprocessing=PREPROCESSING)


def test_checkpoint_of_a_program_is_a_member_with_another_preprocessing(
    bring: Import, tmp_path: Path
) -> None:
    network = Probabilities()
    source = to_onnx(network, tmp_path / "a.onnx", None, "Softmax")
    first = bring(source, preprocessing=PREPROCESSING)
    again = bring(f"checkpoint:{first.checkpoint}", preprocessing={"resize": 40})
    assert again.preprocessing.resize == 40
    images = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_network(first)(images), load_network(again)(images))


def test_predictions_do_not_depend_on_the_number_of_images(bring: Import, tmp_path: Path) -> None:
    network = load_network(
        bring(to_onnx(Tiny(), tmp_path / "a.onnx", 4), preprocessing=PREPROCESSING)
    )
    images = torch.rand(9, 3, 32, 32)
    with torch.inference_mode():
        whole = network(images).numpy()
        parts = torch.cat([network(images[:3]), network(images[3:])]).numpy()
    np.testing.assert_array_equal(whole, parts)
