"""The Open Inference Protocol, version 2, over REST: what clients of KServe and Triton speak.

One input `image`: BYTES `[n]`, encoded images, in JSON as base64; or UINT8 `[n, height, width, 3]`, RGB. Two outputs:
`probabilities` FP32 `[n, class]`, and `label` BYTES `[n]`. Tensors may follow the JSON as binary data.

Source: the Open Inference Protocol, and Triton's extension "binary tensor data".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, NonNegativeInt, ValidationError

from ensemble.images.inputs import Pixels
from ensemble.serving.bodies import decode_all, read_base64, read_json
from ensemble.serving.service import About, Answer, RequestError

LENGTH_HEADER = "inference-header-content-length"
"""Name of the header with the length of the JSON, where binary data follows."""


class _Parameters(BaseModel):
    binary_data_size: NonNegativeInt | None = None


class _Tensor(BaseModel):
    name: Literal["image"]
    shape: tuple[NonNegativeInt, ...]
    datatype: Literal["BYTES", "UINT8"]
    data: Any = None
    parameters: _Parameters = _Parameters()


class _Output(BaseModel):
    name: Literal["probabilities", "label"]


class _Body(BaseModel):
    id: str | None = None
    inputs: tuple[_Tensor]
    outputs: tuple[_Output, ...] = (_Output(name="probabilities"), _Output(name="label"))


@dataclass(frozen=True)
class InferRequest:
    """What is asked for.

    Attributes:
        encoded: Encoded images; empty where pixels came.
        pixels: Pixels; empty where encoded images came.
        id: The client's own name of the request, which is sent back.
        outputs: Names of the outputs that are asked for.
    """

    encoded: tuple[bytes, ...]
    pixels: tuple[Pixels, ...]
    id: str | None
    outputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.encoded) + len(self.pixels)

    def decode(self, max_pixels: int) -> list[Pixels]:
        """Give the pixels of the images.

        Raises:
            RequestError: One of them cannot be decoded, or has too many pixels.
        """
        if any(image.shape[0] * image.shape[1] > max_pixels for image in self.pixels):
            raise RequestError(400, f"an image has more than {max_pixels:,} pixels.")
        return [*self.pixels, *decode_all(self.encoded, max_pixels)]


def read(body: bytes, length: str | None) -> InferRequest:
    """Read a request.

    Args:
        body: The JSON, and binary data behind it.
        length: Length of the JSON in bytes, as the header has it; None where it is the whole body.

    Raises:
        RequestError: The body is no such request.
    """
    size = len(body) if length is None else int(length) if length.isdecimal() else -1
    if not 0 <= size <= len(body):
        raise RequestError(
            400, f"the header {LENGTH_HEADER} is {length!r:.40}; the body has {len(body)} bytes."
        )
    document, binary = read_json(body[:size]), body[size:]
    try:
        infer = _Body.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(400, f"{where}: {first['msg']}.") from error
    (tensor,) = infer.inputs
    binary_size = tensor.parameters.binary_data_size
    if binary_size not in (None, len(binary)):
        raise RequestError(
            400, f"binary_data_size is {binary_size}, and {len(binary)} bytes follow the JSON."
        )
    behind = None if binary_size is None else binary
    encoded: tuple[bytes, ...] = ()
    pixels: tuple[Pixels, ...] = ()
    shape = tensor.shape
    if tensor.datatype == "BYTES" and len(shape) in (1, 2) and math.prod(shape[1:]) == 1:
        encoded = _encoded(tensor.data, behind, shape[0])
    elif tensor.datatype == "UINT8" and len(shape) == 4 and shape[3] == 3 and 0 not in shape:
        pixels = _pixels(tensor.data, behind, shape)
    else:
        raise RequestError(
            400,
            f"the input is {tensor.datatype} of the shape {list(shape)!s:.60}; expected BYTES [n], or UINT8 "
            "[n, height, width, 3].",
        )
    return InferRequest(encoded, pixels, infer.id, tuple(one.name for one in infer.outputs))


def _encoded(data: object, binary: bytes | None, count: int) -> tuple[bytes, ...]:
    if binary is None:
        texts = data if isinstance(data, list) else [data]
        images = [read_base64(text, f"data[{number}]") for number, text in enumerate(texts)]
    else:
        images, start = [], 0
        while start < len(binary):  # each element is its length, 4 bytes, and itself
            size = int.from_bytes(binary[start : start + 4], "little")
            images.append(binary[start + 4 : start + 4 + size])
            start += 4 + size
    if len(images) != count:
        raise RequestError(400, f"the shape is [{count}], and there are {len(images)} images.")
    return tuple(images)


def _pixels(data: object, binary: bytes | None, shape: Sequence[int]) -> tuple[Pixels, ...]:
    try:
        flat = (
            np.asarray(data, dtype=np.int64).reshape(-1)
            if binary is None
            else np.frombuffer(binary, np.uint8)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(400, f"data holds no numbers: {error}.") from error
    if len(flat) != math.prod(shape):
        raise RequestError(400, f"the shape is {list(shape)}, and there are {len(flat)} numbers.")
    if flat.min() < 0 or flat.max() > 255:
        raise RequestError(400, "data holds numbers outside 0 to 255.")
    return tuple(flat.astype(np.uint8).reshape(shape))


def write(answers: Sequence[Answer], request: InferRequest, about: About) -> dict[str, Any]:
    """Write answers as a JSON document."""
    outputs = {
        "probabilities": {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [len(answers), len(about.classes)],
            "data": [value for answer in answers for value in answer.probabilities.tolist()],
        },
        "label": {
            "name": "label",
            "datatype": "BYTES",
            "shape": [len(answers)],
            "data": [answer.label for answer in answers],
        },
    }
    document = {
        "model_name": about.name,
        "model_version": "1",
        "outputs": [outputs[name] for name in request.outputs],
    }
    return document | ({"id": request.id} if request.id is not None else {})


def describe(about: About) -> dict[str, Any]:
    """Describe the model: its inputs and outputs."""
    return {
        "name": about.name,
        "versions": ["1"],
        "platform": "ensemble",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(about.classes)]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
