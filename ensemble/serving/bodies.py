"""What is in the body of a request, whatever protocol it follows."""

import base64
import binascii
import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from ensemble.errors import DecodeError
from ensemble.images.decode import decode
from ensemble.images.inputs import Pixels
from ensemble.serving.service import RequestError

_MAX_TOP_K = 100_000


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RequestError: The body is none.
    """
    try:
        document = json.loads(body)
    except RecursionError:
        raise RequestError(400, "the body is no JSON: it nests too deeply.") from None
    except ValueError as error:
        raise RequestError(400, f"the body is no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise RequestError(400, "the body is no JSON object; expected {…}.")
    return document


def read_base64(value: object, where: str) -> bytes:
    """Read an encoded image that stands in JSON as base64.

    Args:
        value: The text; a data: URL is accepted, too.
        where: What messages call it.

    Raises:
        RequestError: The value is no base64.
    """
    if not isinstance(value, str):
        raise RequestError(400, f"{where} is no text; expected an encoded image as base64.")
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"{where} is no base64: {error}.") from error


def read_top_k(value: object, default: int) -> int:
    """Read how many of the most probable classes are asked for.

    Raises:
        RequestError: The value is no number of classes.
    """
    if value is None:
        return default
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if isinstance(value, bool) or not 0 < number <= _MAX_TOP_K:
        raise RequestError(400, f"top_k is {value!r:.40}; expected a whole number of 1 or more.")
    return number


def read_flag(value: object, name: str) -> bool:
    """Read a yes or no, from JSON or from a query.

    Raises:
        RequestError: The value is neither.
    """
    if value in (None, False, "false", "0"):
        return False
    if value in (True, "true", "1", ""):
        return True
    raise RequestError(400, f"{name} is {value!r:.40}; expected true or false.")


def decode_all(images: Sequence[bytes], max_pixels: int) -> list[Pixels]:
    """Decode images.

    Raises:
        RequestError: One of them is no image that can be decoded, or has too many pixels.
    """
    pixels = []
    for number, encoded in enumerate(images):
        try:
            pixels.append(decode(BytesIO(encoded), max_pixels))
        except DecodeError as error:
            raise RequestError(
                400, f"image {number} ({len(encoded)} bytes) cannot be decoded: {error}"
            ) from error
    return pixels
