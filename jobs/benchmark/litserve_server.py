"""LitServe with an ensemble: `python -m jobs.benchmark.litserve_server ARTIFACT PORT MAX_BATCH`."""

import base64
import sys
from collections.abc import Sequence
from typing import Any

import litserve
import torch

from ensemble import predictor


class EnsembleApi(litserve.LitAPI):  # type: ignore[misc]
    """The ensemble, as LitServe wants it: encoded images in, the best class out.

    Args:
        place: Folder of the artifact.
        max_batch: Requests that are predicted together.
    """

    def __init__(self, place: str, max_batch: int) -> None:
        super().__init__(max_batch_size=max_batch)
        self._place = place

    def setup(self, device: str) -> None:
        """Load the ensemble in the process that predicts."""
        torch.set_num_threads(1)  # as a replica with one CPU
        self._predictor = predictor.load(self._place)

    def decode_request(self, request: dict[str, str]) -> bytes:
        """Take the encoded image out of a request."""
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Leave images as they are: their sizes may differ."""
        return list(inputs)

    def predict(self, images: bytes | list[bytes]) -> Any:
        """Predict a batch, or an image where there are none."""
        several = images if isinstance(images, list) else [images]
        top = self._predictor.predict(several).top(1)
        best = [{"label": label, "probability": probability} for ((label, probability),) in top]
        return best if isinstance(images, list) else best[0]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each request its answer."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Answer as it is."""
        return output


def main(words: Sequence[str]) -> None:
    """Serve, until the process is ended."""
    place, port, max_batch = words
    litserve.LitServer(EnsembleApi(place, int(max_batch)), accelerator="cpu").run(
        host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False
    )


if __name__ == "__main__":
    main(sys.argv[1:])
