"""The failure policy: from the cause that ended a call to what the dispatcher does about it.

Pure, so that its tests need no Ray. Ray's exceptions become causes in `cluster/pool/ray_errors.py`;
the decisions are tabulated in `cluster/README.md`.
"""

from dataclasses import dataclass
from enum import Enum

# Blocks of one member that may be quarantined. With one more, the member itself must be at fault.
MAX_QUARANTINED = 3


class Cause(Enum):
    """What ended a call without a value."""

    OWN_CODE = "its own code raised"
    START_FAILED = "its worker could not start"
    WORKER_LOST = "its worker died"
    WORKER_OOM = "its worker was killed for memory"
    NODE_LOST = "its node died"
    NODE_DRAINED = "its node was taken back, as announced"
    UNREACHABLE = "its worker did not answer"
    DECODER_LOST = "the decoder of its shard died"
    OBJECT_LOST = "an object that it needs was lost"
    UNKNOWN = "Ray failed in a way that is not known here"


class Decision(Enum):
    """What the dispatcher does about a call that ended without a value."""

    RETRY = "retry"
    REPLACE = "replace the worker and retry"
    QUARANTINE = "quarantine this block and go on"
    RAISE = "give up"


# Attempts of one call that may end with a cause: at the last one, the call is given up or quarantined.
# A lost node and a lost message are no fault of the call, so they may happen more often.
LIMITS = {
    Cause.OWN_CODE: 1,
    Cause.START_FAILED: 3,
    Cause.WORKER_LOST: 3,
    Cause.WORKER_OOM: 3,
    Cause.NODE_LOST: 10,
    Cause.NODE_DRAINED: 100,
    Cause.UNREACHABLE: 20,
    # More than of a worker: Ray reports a decoder that died and a message that was lost alike.
    Cause.DECODER_LOST: 5,
    Cause.OBJECT_LOST: 10,
    Cause.UNKNOWN: 1,
}
_WORKER_IS_GONE = {
    Cause.START_FAILED,
    Cause.WORKER_LOST,
    Cause.WORKER_OOM,
    Cause.NODE_LOST,
    Cause.NODE_DRAINED,
}
_KILLS_ITS_WORKER = {Cause.WORKER_LOST, Cause.WORKER_OOM, Cause.DECODER_LOST}


@dataclass(frozen=True)
class Failure:
    """One failed call.

    Attributes:
        cause: What ended the call.
        attempts: How often this call has ended with this cause, this time included.
        can_be_quarantined: Whether the run can go on without the call. It can without a block of
            predictions, and cannot without a trained member.
        num_quarantined: Blocks of the same member that are quarantined already.
    """

    cause: Cause
    attempts: int
    can_be_quarantined: bool = False
    num_quarantined: int = 0


def decide(failure: Failure) -> Decision:
    """Decide what happens after a failed call.

    The member's own code fails the same way again, so it is not tried again; a lost process or
    object is worth another attempt. A block that kills its worker in every attempt is quarantined,
    unless so many blocks of the member are quarantined that the member itself must be at fault.
    """
    if failure.attempts >= LIMITS[failure.cause]:
        is_deadly = failure.cause in _KILLS_ITS_WORKER and failure.can_be_quarantined
        if is_deadly and failure.num_quarantined < MAX_QUARANTINED:
            return Decision.QUARANTINE
        return Decision.RAISE
    return Decision.REPLACE if failure.cause in _WORKER_IS_GONE else Decision.RETRY


def backoff_s(cause: Cause, attempts: int) -> float:
    """Return the seconds until the next attempt; only a worker that does not answer is given time."""
    return min(0.05 * 2 ** (attempts - 1), 5.0) if cause is Cause.UNREACHABLE else 0.0
