"""The failure policy: facts in, decision out. Pure, so that its tests need no Ray."""

from dataclasses import dataclass
from enum import Enum

MAX_QUARANTINED = 3


class Cause(Enum):
    """What ended a call without a value."""

    OWN_CODE = "its own code raised"
    START_FAILED = "its host could not start"
    WORKER_LOST = "its host died"
    WORKER_OOM = "its host was killed for memory"
    NODE_LOST = "its node died"
    NODE_DRAINED = "its node was taken back, as announced"
    UNREACHABLE = "its host did not answer"
    DECODER_LOST = "the decoder of its shard died"
    OBJECT_LOST = "an object it needs was lost"
    UNKNOWN = "Ray failed in a way that is not known here"


class Decision(Enum):
    """What the pool does about it."""

    RETRY = "retry"
    REPLACE = "replace the host and retry"
    QUARANTINE = "leave this block out and go on"
    RAISE = "give up"


# Attempts of one call that may end so. A lost node is not the call's fault, nor a lost message.
LIMITS = {
    Cause.OWN_CODE: 1,
    Cause.START_FAILED: 3,
    Cause.WORKER_LOST: 3,
    Cause.WORKER_OOM: 3,
    Cause.NODE_LOST: 10,
    Cause.NODE_DRAINED: 100,
    Cause.UNREACHABLE: 20,
    # More than of a host: Ray tells a decoder that died and a message that was lost alike.
    Cause.DECODER_LOST: 5,
    Cause.OBJECT_LOST: 10,
    Cause.UNKNOWN: 1,
}
_HOST_IS_GONE = {
    Cause.START_FAILED,
    Cause.WORKER_LOST,
    Cause.WORKER_OOM,
    Cause.NODE_LOST,
    Cause.NODE_DRAINED,
}
_POISON = {Cause.WORKER_LOST, Cause.WORKER_OOM, Cause.DECODER_LOST}


@dataclass(frozen=True)
class Failure:
    """One failed call.

    Attributes:
        cause: What ended it.
        attempts: How often this call has ended so, this time included.
        can_be_quarantined: Whether the run can go on without it, as without a block of predictions.
        quarantined: Calls of this member that were left out before.
    """

    cause: Cause
    attempts: int
    can_be_quarantined: bool = False
    quarantined: int = 0


def decide(failure: Failure) -> Decision:
    """Own code fails the same way again; a lost process or object is worth another attempt.

    What kills its worker every time is poison: it is left out where that is possible, unless the
    member has killed so many that the member itself must be at fault.
    """
    if failure.attempts >= LIMITS[failure.cause]:
        is_poison = failure.cause in _POISON and failure.can_be_quarantined
        if is_poison and failure.quarantined < MAX_QUARANTINED:
            return Decision.QUARANTINE
        return Decision.RAISE
    return Decision.REPLACE if failure.cause in _HOST_IS_GONE else Decision.RETRY


def backoff_s(cause: Cause, attempts: int) -> float:
    """Seconds until the next attempt: only a host that does not answer is given time."""
    return min(0.05 * 2 ** (attempts - 1), 5.0) if cause is Cause.UNREACHABLE else 0.0
