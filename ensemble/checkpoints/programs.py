"""Networks that come as a program, ONNX or torch.export: kept as bytes inside a checkpoint."""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ensemble.checkpoints.first_bytes import tell_other_content
from ensemble.checkpoints.scores import Scores, make_images, tell_scores, to_logits
from ensemble.errors import CheckpointError
from ensemble.members.member import PROGRAMS

KINDS = PROGRAMS
_TENSOR = "program"
# Types of ONNX tensors whose numbers may be NaN: float, float16 and double.
_FLOATS = (1, 10, 11)


class Program(nn.Module):
    """A program as a network.

    Args:
        program: Bytes of the program.
        run: Function from images to the outputs of the program.
        batch_images: Number of images that the program takes at a time; any number if none.
        num_parameters: Number of parameters in the program.
        outputs: Outputs to give, in order; all if empty.
        scores: What the program gives.
    """

    program: torch.Tensor

    def __init__(
        self,
        program: bytes,
        run: Any,
        batch_images: int | None,
        num_parameters: int,
        outputs: tuple[int, ...] = (),
        scores: Scores = "logits",
    ) -> None:
        super().__init__()
        tensor = torch.frombuffer(bytearray(program), dtype=torch.uint8)
        self.register_buffer(_TENSOR, tensor)
        self._run = run
        self._batch_images = batch_images
        self.num_parameters = num_parameters
        self.outputs = outputs
        self.scores: Scores = scores

    def forward(self, images: Float[torch.Tensor, "image 3 _ _"]) -> torch.Tensor:
        """Compute logits of normalised images, up to a constant for each image."""
        size = self._batch_images or len(images)
        parts = [self._run_batch(images[i : i + size], size) for i in range(0, len(images), size)]
        logits = to_logits(torch.cat(parts), self.scores)
        return logits[:, list(self.outputs)] if self.outputs else logits

    def _run_batch(self, images: torch.Tensor, size: int) -> torch.Tensor:
        missing = size - len(images)
        filled = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
        outputs: torch.Tensor = self._run(filled)
        return outputs[: len(images)]


def open_program(
    kind: str, program: bytes, outputs: tuple[int, ...] = (), scores: Scores = "logits"
) -> Program:
    """Make a network from the bytes of a program; those of pt2 are unpickled, so they must be trusted.

    Raises:
        CheckpointError: The program cannot be loaded.
    """
    if (what := tell_other_content(program)) is not None:
        raise CheckpointError(f"the program of kind {kind} cannot be loaded: the file {what}.")
    run, batch_images, parameters = {"onnx": _open_onnx, "pt2": _open_pt2}[kind](program)
    return Program(program, run, batch_images, parameters, outputs, scores)


def examine(network: nn.Module, size: int, what: str) -> tuple[int, Scores]:
    """Count the outputs of a network and tell what they are, by a run on a few random images.

    Args:
        network: A program, or a network that a function made.
        size: Side of its input, in pixels.
        what: What messages call it.

    Raises:
        CheckpointError: The network takes no images of that size, does not give a row for each, or
            gives NaN.
    """
    images = make_images(size)
    try:
        with torch.inference_mode():
            outputs = network(images)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as error:
        raise CheckpointError(
            f"{what} cannot be run on images {list(images.shape)}: {_line(error)}. "
            "Expected a classifier of float32 images; set preprocessing.size to its input."
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise CheckpointError(
            f"{what} gives {type(outputs).__name__} for {len(images)} images; expected a tensor with a row "
            "of logits for each."
        )
    if outputs.ndim != 2 or len(outputs) != len(images):
        raise CheckpointError(
            f"{what} gives {list(outputs.shape)} for {len(images)} images; expected a row of logits for "
            "each."
        )
    if outputs[:2].isnan().any():
        raise CheckpointError(
            f"{what} gives NaN for images of random numbers. Expected finite logits: its training may "
            "have diverged. Give weights of an earlier epoch, or leave the member out."
        )
    return outputs.shape[1], tell_scores(outputs)


def to_metadata(kind: str, network: Program) -> dict[str, str]:
    """Give the metadata of a program's checkpoint."""
    details: dict[str, object] = {
        "outputs": network.outputs,
        # What earlier versions wrote, so that they and we read each other's checkpoints.
        "is_probability": network.scores == "probabilities",
    }
    if network.scores == "sigmoids":
        details["scores"] = network.scores
    return {
        "architecture": kind,
        "head": "",
        "parameters": str(network.num_parameters),
        "program": json.dumps(details),
    }


def from_checkpoint(
    kind: str, weights: dict[str, torch.Tensor], metadata: dict[str, str], path: Path
) -> Program:
    """Open the program in a checkpoint.

    Raises:
        CheckpointError: The checkpoint holds no whole program.
    """
    try:
        details = json.loads(metadata["program"])
        program = weights[_TENSOR].numpy().tobytes()
        outputs = tuple(details["outputs"])
        scores: Scores = details.get(
            "scores", "probabilities" if details["is_probability"] else "logits"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds no whole {kind} program ({error!r}). Import the member again."
        ) from error
    return open_program(kind, program, outputs, scores)


def _open_onnx(program: bytes) -> tuple[Any, int | None, int]:
    try:
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ImportError as error:
        raise CheckpointError(
            f"an ONNX member needs {error.name}, which is not installed: pip install -e '.[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    failures = (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NotImplemented,
        errors.RuntimeException,
        DecodeError,
    )
    try:
        graph = onnx.load_from_string(program)
        _check_tensors(graph)
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise CheckpointError(
            f"the ONNX graph cannot be loaded: {_line(error)}. Expected one file with its weights inside."
        ) from error
    source = session.get_inputs()[0]

    def run(images: torch.Tensor) -> torch.Tensor:
        try:
            rows = session.run(None, {source.name: images.cpu().numpy()})[0]
        except failures as error:
            raise RuntimeError(_line(error)) from error
        return torch.from_numpy(rows).to(images.device)

    batch = source.shape[0] if source.shape else None
    parameters = sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)
    return run, batch if isinstance(batch, int) else None, parameters


def _check_tensors(graph: Any) -> None:
    """Refuse tensors that lie in another file, or are NaN.

    A file beside the graph can change while the graph stays, and is not looked for where the member
    runs. onnxruntime would read it from the folder that a process happens to be in.
    """
    from onnx import TensorProto, numpy_helper

    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            files = {entry.value for entry in tensor.external_data if entry.key == "location"}
            raise CheckpointError(
                f"the ONNX graph has its weights in another file ({', '.join(sorted(files)) or 'unnamed'}). "
                "Expected one file with its weights inside. Make it once where both files lie: "
                "python -c \"import onnx; onnx.save_model(onnx.load('model.onnx'), 'whole.onnx')\" with the "
                "name of yours in place of model.onnx."
            )
        if tensor.data_type in _FLOATS and np.isnan(numpy_helper.to_array(tensor)).any():
            raise CheckpointError(
                f"the weights of the ONNX graph hold NaN, as {tensor.name!r}. Expected finite weights: "
                "the training diverged. Export weights of an earlier epoch, or leave the member out."
            )


def _tensors(message: Any) -> Iterator[Any]:
    """List the tensors of a graph: its weights, and those of constants, subgraphs and functions."""
    from onnx import TensorProto

    waiting = [message]
    while waiting:
        part = waiting.pop()
        if isinstance(part, TensorProto):
            yield part
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                # Repeated messages are sequences, and a single one is not.
                waiting += list(value) if hasattr(value, "__len__") else [value]


def _open_pt2(program: bytes) -> tuple[Any, int | None, int]:
    if not zipfile.is_zipfile(io.BytesIO(program)):  # torch prints a traceback of its own
        raise CheckpointError(
            f"the .pt2 program cannot be loaded: its {len(program)} bytes are no archive. Expected what "
            "torch.export.save wrote."
        )
    try:
        exported = torch.export.load(io.BytesIO(program))
        module = exported.module()
    except (RuntimeError, ValueError, KeyError, AssertionError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the .pt2 program cannot be loaded: {_line(error)}. Export it again with torch "
            f"{torch.__version__}."
        ) from error
    shapes = [
        node.meta["val"].shape
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in exported.graph_signature.user_inputs
    ]
    batch = shapes[0][0]
    parameters = sum(parameter.numel() for parameter in exported.parameters())
    return module, batch if isinstance(batch, int) else None, parameters


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
