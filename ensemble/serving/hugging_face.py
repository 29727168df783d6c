"""The request of Hugging Face for image classification, as `huggingface_hub.InferenceClient` sends it.

Source: the task "image-classification" of Hugging Face's inference providers.
"""

from typing import Any

from ensemble.serving.bodies import read_base64, read_json, read_top_k
from ensemble.serving.service import About, Answer, RequestError


def read(body: bytes, is_json: bool, top_k: int) -> tuple[bytes, int]:
    """Read a request: the bytes of an image, or `{"inputs": base64, "parameters": {"top_k": 5}}`.

    Returns:
        The encoded image, and the number of the most probable classes that are asked for.

    Raises:
        RequestError: The body is no such request.
    """
    if not is_json:
        return body, top_k
    document = read_json(body)
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestError(400, "parameters is no JSON object; expected {…}.")
    function = parameters.get("function_to_apply")
    if function not in (None, "softmax"):
        raise RequestError(
            400,
            f"function_to_apply is {function!r:.40}; expected softmax: an ensemble answers with probabilities.",
        )
    return read_base64(document.get("inputs"), "inputs"), read_top_k(parameters.get("top_k"), top_k)


def write(answer: Answer, top_k: int, about: About) -> list[dict[str, Any]]:
    """Write an answer as the list that the client expects."""
    return [
        {"label": label, "score": probability}
        for label, probability in answer.top(top_k, about.classes)
    ]
