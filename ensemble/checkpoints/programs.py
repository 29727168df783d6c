"""Networks that come as a program, ONNX or torch.export: kept as bytes inside a checkpoint."""

import io
import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from ensemble.errors import CheckpointError
from ensemble.members.member import PROGRAMS

KINDS = PROGRAMS
_TENSOR = "program"


class Program(nn.Module):
    """A program as a network.

    Args:
        program: Bytes of the program.
        run: Function from images to the outputs of the program.
        batch_images: Number of images that the program takes at a time; any number if none.
        num_parameters: Number of parameters in the program.
        outputs: Outputs to give, in order; all if empty.
        is_probability: Whether the program gives probabilities and not logits.
    """

    program: torch.Tensor

    def __init__(
        self,
        program: bytes,
        run: Any,
        batch_images: int | None,
        num_parameters: int,
        outputs: tuple[int, ...] = (),
        is_probability: bool = False,
    ) -> None:
        super().__init__()
        tensor = torch.frombuffer(bytearray(program), dtype=torch.uint8)
        self.register_buffer(_TENSOR, tensor)
        self._run = run
        self._batch_images = batch_images
        self.num_parameters = num_parameters
        self.outputs = outputs
        self.is_probability = is_probability

    def forward(self, images: Float[torch.Tensor, "image 3 _ _"]) -> torch.Tensor:
        """Compute logits of normalised images, up to a constant for each image."""
        size = self._batch_images or len(images)
        parts = [self._run_batch(images[i : i + size], size) for i in range(0, len(images), size)]
        scores = torch.cat(parts)
        if self.is_probability:
            scores = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        return scores[:, list(self.outputs)] if self.outputs else scores

    def _run_batch(self, images: torch.Tensor, size: int) -> torch.Tensor:
        missing = size - len(images)
        filled = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
        scores: torch.Tensor = self._run(filled)
        return scores[: len(images)]


def open_program(
    kind: str, program: bytes, outputs: tuple[int, ...] = (), is_probability: bool = False
) -> Program:
    """Make a network from the bytes of a program; those of pt2 are unpickled, so they must be trusted.

    Raises:
        CheckpointError: The program cannot be loaded.
    """
    run, batch_images, parameters = {"onnx": _open_onnx, "pt2": _open_pt2}[kind](program)
    return Program(program, run, batch_images, parameters, outputs, is_probability)


def examine(network: Program, size: int, what: str) -> tuple[int, bool]:
    """Count the outputs of a program and tell whether they are probabilities, by a run on two images.

    Raises:
        CheckpointError: The program takes no images of that size, or does not give a row for each.
    """
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            scores = network(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise CheckpointError(
            f"{what} cannot be run on images [2, 3, {size}, {size}]: {_line(error)}. "
            "Expected a classifier of float32 images; set preprocessing.size to its input."
        ) from error
    if scores.ndim != 2 or len(scores) != 2:
        raise CheckpointError(
            f"{what} gives {list(scores.shape)} for two images; expected a row of logits for each."
        )
    sums = scores.sum(dim=1)
    is_probability = bool((scores >= 0).all() and (sums - 1).abs().max() < 1e-3)
    return scores.shape[1], is_probability


def to_metadata(kind: str, network: Program) -> dict[str, str]:
    """Give the metadata of a program's checkpoint."""
    details = {"outputs": network.outputs, "is_probability": network.is_probability}
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
        outputs, is_probability = tuple(details["outputs"]), bool(details["is_probability"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} holds no whole {kind} program ({error!r}). Import the member again."
        ) from error
    return open_program(kind, program, outputs, is_probability)


def _open_onnx(program: bytes) -> tuple[Any, int | None, int]:
    try:
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ImportError as error:
        raise CheckpointError(
            f"an ONNX member needs a package that is not installed: {error}. Install "
            "ensemble-as-a-job[onnx]."
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
        weights = onnx.load_from_string(program).graph.initializer
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
    parameters = sum(math.prod(tensor.dims) for tensor in weights)
    return run, batch if isinstance(batch, int) else None, parameters


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
