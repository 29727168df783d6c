"""Our own protocol: one image or several in, labels with probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.serving.bodies import read_base64, read_flag, read_json, read_top_k
from ensemble.serving.service import About, Answer, RequestError

_FIELDS = ("image", "images", "top_k", "explain", "probabilities")


@dataclass(frozen=True)
class PlainRequest:
    """What is asked for.

    Attributes:
        images: Encoded images.
        top_k: Number of the most probable classes.
        explains: Whether each member's vote is asked for.
        has_probabilities: Whether the probability of every class is asked for.
    """

    images: tuple[bytes, ...]
    top_k: int
    explains: bool = False
    has_probabilities: bool = False


def read_document(body: bytes, query: Mapping[str, str], top_k: int) -> PlainRequest:
    """Read a request in JSON: `{"image": base64}` or `{"images": [base64, …]}`, with options beside.

    Raises:
        RequestError: The body is no such request.
    """
    document = read_json(body)
    unknown = sorted(document.keys() - set(_FIELDS))
    if unknown:
        raise RequestError(
            400, f"no field {unknown[0]!r:.40} is known; expected {', '.join(_FIELDS)}."
        )
    if ("image" in document) == ("images" in document):
        raise RequestError(400, "expected either image or images, encoded as base64.")
    images = [document["image"]] if "image" in document else document["images"]
    if not isinstance(images, list):
        raise RequestError(400, "images is no list; expected encoded images as base64.")
    named = [f"images[{number}]" for number in range(len(images))]
    if "image" in document:
        named = ["image"]
    encoded = [read_base64(image, name) for image, name in zip(images, named, strict=True)]
    return read_encoded(encoded, {**query, **document}, top_k)


def read_encoded(images: Sequence[bytes], options: Mapping[str, Any], top_k: int) -> PlainRequest:
    """Make a request of images that came as they are, alone or as the files of a form.

    Raises:
        RequestError: An option is wrong.
    """
    return PlainRequest(
        tuple(images),
        read_top_k(options.get("top_k"), top_k),
        read_flag(options.get("explain"), "explain"),
        read_flag(options.get("probabilities"), "probabilities"),
    )


def write(answers: Sequence[Answer], request: PlainRequest, about: About) -> dict[str, Any]:
    """Write answers as a JSON document."""
    return {
        "model": about.name,
        "predictions": [_prediction(answer, request, about) for answer in answers],
    }


def _prediction(answer: Answer, request: PlainRequest, about: About) -> dict[str, Any]:
    top = answer.top(request.top_k, about.classes)
    prediction: dict[str, Any] = {
        "label": answer.label,
        "probability": float(answer.probabilities[about.classes.index(answer.label)]),
        "top": [{"label": label, "probability": probability} for label, probability in top],
    }
    if answer.set is not None:
        prediction["set"] = list(answer.set)
    if answer.exit_step is not None:
        prediction["step"] = answer.exit_step
    if request.has_probabilities:
        prediction["probabilities"] = answer.probabilities.tolist()
    if request.explains:
        prediction["routed"] = answer.routed
        prediction["votes"] = {
            member: {"label": label, "probability": probability}
            for member, (label, probability) in answer.votes.items()
        }
    return prediction
