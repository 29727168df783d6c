"""The one place where Ray's exceptions become causes of the failure policy."""

import re

from ray import exceptions as ray_exceptions

from cluster.scheduling.failures import Cause
from ensemble.errors import ProjectError

# A line of a traceback; the exception comes after all of them, at the beginning of a line.
_FRAME = re.compile(r'^\s+File ".*", line \d+', re.MULTILINE)

# An exception has the cause of its nearest ancestor in this table.
CAUSES: dict[type[BaseException], Cause] = {
    ray_exceptions.RayError: Cause.UNKNOWN,
    ray_exceptions.RayTaskError: Cause.OWN_CODE,
    ray_exceptions.UserCodeException: Cause.OWN_CODE,
    ray_exceptions.RuntimeEnvSetupError: Cause.START_FAILED,
    ray_exceptions.RayActorError: Cause.WORKER_LOST,
    ray_exceptions.ActorUnavailableError: Cause.UNREACHABLE,
    ray_exceptions.WorkerCrashedError: Cause.WORKER_LOST,
    ray_exceptions.OutOfMemoryError: Cause.WORKER_OOM,
    ray_exceptions.LocalRayletDiedError: Cause.NODE_LOST,
    ray_exceptions.NodeDiedError: Cause.NODE_LOST,
    ray_exceptions.ActorPlacementGroupRemoved: Cause.NODE_LOST,
    ray_exceptions.TaskPlacementGroupRemoved: Cause.NODE_LOST,
    ray_exceptions.RpcError: Cause.UNREACHABLE,
    ray_exceptions.GetTimeoutError: Cause.UNREACHABLE,
    ray_exceptions.ObjectLostError: Cause.OBJECT_LOST,
    ray_exceptions.ObjectStoreFullError: Cause.OBJECT_LOST,
    ray_exceptions.OutOfDiskError: Cause.OBJECT_LOST,
    ray_exceptions.PlasmaObjectNotAvailable: Cause.OBJECT_LOST,
}


def translate(error: ray_exceptions.RayError) -> tuple[Cause, str]:
    """Return what ended a call, and one sentence that says why."""
    if isinstance(error, ray_exceptions.RayTaskError):
        if isinstance(error.cause, ray_exceptions.RayError):
            return translate(error.cause)  # an argument of the call could not be made
        return Cause.OWN_CODE, _sentence(_explain(error.cause))
    if isinstance(error, ray_exceptions.ActorDiedError):
        return _why_the_actor_died(error), _sentence(_reason(error))
    cause = next(CAUSES[kind] for kind in type(error).__mro__ if kind in CAUSES)
    if cause is Cause.OBJECT_LOST:
        return cause, _sentence(type(error).__name__)
    return cause, _sentence(_reason(error))


def _why_the_actor_died(error: ray_exceptions.ActorDiedError) -> Cause:
    text = str(error)
    if error.preempted:
        return Cause.NODE_DRAINED
    if error.actor_init_failed:
        return Cause.START_FAILED
    # Ray tells these apart by their words only; tests with a real node and a real kill check them.
    if "node has died" in text or "node was terminated" in text or "node died" in text.lower():
        return Cause.NODE_LOST
    # Ray's general advice names the OOM killer after every death; its own killer says this.
    if "running low on memory" in text:
        return Cause.WORKER_OOM
    return Cause.WORKER_LOST


def _explain(cause: BaseException) -> str:
    return str(cause) if isinstance(cause, ProjectError) else f"{type(cause).__name__}: {cause}"


def _reason(error: BaseException) -> str:
    text = str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    if _FRAME.search(text):
        return [line for line in lines if not line[0].isspace()][-1]
    # Ray begins with a general line and indented names; what happened comes after them.
    details = [line for line in lines[1:] if not line.startswith("\t")]
    reason = (details or lines or [type(error).__name__])[0].strip()
    return reason.partition(" Some common causes include")[0]


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."
