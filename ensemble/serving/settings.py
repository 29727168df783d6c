"""Settings of a server."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ensemble.config import Config

KEY_VARIABLE = "ENSEMBLE_API_KEY"
"""Environment variable with the key that clients must send."""


class ServingConfig(Config):
    """How an ensemble is served."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every address of this machine."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen at."""
    replicas: PositiveInt = 1
    """Copies of the ensemble, each in a process of its own, with a GPU of its own where the device is cuda."""
    device: str = "cpu"
    """Device that predicts, as torch names it: cpu or cuda."""
    top_k: PositiveInt = 5
    """Number of the most probable classes in an answer, where a request does not say."""
    max_batch: PositiveInt = 32
    """Requests that are predicted together."""
    batch_wait_ms: NonNegativeFloat = 0.0
    """The longest that a request waits for others to be predicted with, in milliseconds; those that arrive while
    others are predicted are predicted together next in any case."""
    max_queue: PositiveInt = 256
    """Requests that are under way at a time; a further one is answered with 503, to be sent again."""
    max_images: PositiveInt = 32
    """Images in one request."""
    max_body_mb: PositiveFloat = 20.0
    """Size of one request, in MB of 10^6 bytes."""
    max_pixels: PositiveInt = 50_000_000
    """Height times width of one image; a larger one is refused before it is decoded."""
    drain_s: PositiveFloat = 30.0
    """Seconds that requests under way are given when the server is stopped."""
