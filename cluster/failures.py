"""The failure policy: facts in, decision out. Pure, so that its tests need no Ray."""

from dataclasses import dataclass
from enum import Enum

MAX_ATTEMPTS = 3


class Cause(Enum):
    """What ended a call without a value."""

    OWN_CODE = "its own code raised"
    HOST_LOST = "its host died"
    OBJECT_LOST = "an object it needs was lost"


class Decision(Enum):
    """What the pool does about it."""

    RETRY = "retry"
    REPLACE_HOST = "replace the host and retry"
    RAISE = "raise"


@dataclass(frozen=True)
class Failure:
    """One failed call."""

    cause: Cause
    attempts: int


def decide(failure: Failure) -> Decision:
    """Own code fails the same way again; a lost process or object is worth another attempt."""
    if failure.cause is Cause.OWN_CODE or failure.attempts >= MAX_ATTEMPTS:
        return Decision.RAISE
    if failure.cause is Cause.HOST_LOST:
        return Decision.REPLACE_HOST
    return Decision.RETRY
