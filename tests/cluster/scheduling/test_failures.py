import inspect

import pytest
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import CAUSES, translate
from cluster.scheduling.failures import (
    LIMITS,
    MAX_QUARANTINED,
    Cause,
    Decision,
    Failure,
    backoff_s,
    decide,
)
from ensemble.errors import CheckpointError

KILLED = (Cause.WORKER_LOST, Cause.WORKER_OOM, Cause.DECODER_LOST)


def test_own_code_is_not_tried_again() -> None:
    assert decide(Failure(Cause.OWN_CODE, 1, can_be_quarantined=True)) is Decision.RAISE


def test_what_is_not_known_is_not_tried_again() -> None:
    assert decide(Failure(Cause.UNKNOWN, 1, can_be_quarantined=True)) is Decision.RAISE


def test_a_lost_worker_is_replaced_until_attempts_run_out() -> None:
    decisions = [decide(Failure(Cause.WORKER_LOST, n)) for n in (1, 2, 3)]
    assert decisions == [Decision.REPLACE, Decision.REPLACE, Decision.RAISE]


@pytest.mark.parametrize("cause", KILLED)
def test_a_block_that_kills_its_worker_every_time_is_quarantined(cause: Cause) -> None:
    limit = LIMITS[cause]
    assert decide(Failure(cause, limit - 1, can_be_quarantined=True)) is not Decision.QUARANTINE
    assert decide(Failure(cause, limit, can_be_quarantined=True)) is Decision.QUARANTINE


@pytest.mark.parametrize("cause", KILLED)
def test_a_member_that_kills_its_worker_on_every_shard_is_at_fault_itself(cause: Cause) -> None:
    failure = Failure(
        cause, LIMITS[cause], can_be_quarantined=True, num_quarantined=MAX_QUARANTINED
    )
    assert decide(failure) is Decision.RAISE


def test_a_lost_node_is_no_blocks_fault() -> None:
    for attempts in range(1, LIMITS[Cause.NODE_LOST]):
        assert decide(Failure(Cause.NODE_LOST, attempts, True)) is Decision.REPLACE
    assert decide(Failure(Cause.NODE_LOST, LIMITS[Cause.NODE_LOST], True)) is Decision.RAISE


def test_an_announced_loss_is_hardly_counted() -> None:
    assert decide(Failure(Cause.NODE_DRAINED, 50)) is Decision.REPLACE


@pytest.mark.parametrize("cause", [Cause.OBJECT_LOST, Cause.UNREACHABLE])
def test_a_call_whose_object_or_message_was_lost_is_made_again_by_the_same_worker(
    cause: Cause,
) -> None:
    assert decide(Failure(cause, 1)) is Decision.RETRY
    assert decide(Failure(cause, LIMITS[cause], True)) is Decision.RAISE


# What happens at the first failure of a block, and at the last that is accepted.
DECISIONS = {
    Cause.OWN_CODE: (Decision.RAISE, Decision.RAISE),
    Cause.START_FAILED: (Decision.REPLACE, Decision.RAISE),
    Cause.WORKER_LOST: (Decision.REPLACE, Decision.QUARANTINE),
    Cause.WORKER_OOM: (Decision.REPLACE, Decision.QUARANTINE),
    Cause.NODE_LOST: (Decision.REPLACE, Decision.RAISE),
    Cause.NODE_DRAINED: (Decision.REPLACE, Decision.RAISE),
    Cause.UNREACHABLE: (Decision.RETRY, Decision.RAISE),
    Cause.DECODER_LOST: (Decision.RETRY, Decision.QUARANTINE),
    Cause.OBJECT_LOST: (Decision.RETRY, Decision.RAISE),
    Cause.UNKNOWN: (Decision.RAISE, Decision.RAISE),
}


@pytest.mark.parametrize("cause", Cause)
def test_every_fact_has_its_decision(cause: Cause) -> None:
    first, last = DECISIONS[cause]
    assert decide(Failure(cause, 1, can_be_quarantined=True)) is first
    assert decide(Failure(cause, LIMITS[cause], can_be_quarantined=True)) is last
    # A training is never quarantined.
    assert decide(Failure(cause, LIMITS[cause])) is Decision.RAISE


def test_only_a_worker_that_does_not_answer_is_given_time_and_never_over_five_seconds() -> None:
    assert {backoff_s(cause, 1) for cause in Cause if cause is not Cause.UNREACHABLE} == {0.0}
    times = [backoff_s(Cause.UNREACHABLE, n) for n in range(1, 21)]
    assert times == sorted(times)
    assert times[-1] == 5.0


KINDS = [
    kind
    for _, kind in inspect.getmembers(ray_exceptions, inspect.isclass)
    if issubclass(kind, ray_exceptions.RayError)
]
# Errors of what this project does not use of Ray: other languages, streams, compiled graphs, cancelling, names.
NOT_USED = {
    "CrossLanguageError",
    "TaskCancelledError",
    "RaySystemError",
    "AuthenticationError",
    "AsyncioActorExit",
    "PendingCallsLimitExceeded",
    "TaskUnschedulableError",
    "ActorUnschedulableError",
    "ObjectRefStreamEndOfStreamError",
    "StreamingGeneratorReplayInconsistentError",
    "OufOfBandObjectRefSerializationException",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayCgraphCapacityExceeded",
    "RayDirectTransportError",
    "UnserializableException",
    "ActorAlreadyExistsError",
    "ActorHandleNotFoundError",
    "RayError",
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_of_ray_that_can_be_met_has_a_cause_of_its_own(kind: type) -> None:
    nearest = next(CAUSES[ancestor] for ancestor in kind.__mro__ if ancestor in CAUSES)
    assert (nearest is Cause.UNKNOWN) == (kind.__name__ in NOT_USED)


def test_our_own_message_comes_through_as_it_is() -> None:
    error = ray_exceptions.RayTaskError("predict", "Traceback", CheckpointError("w.pt is damaged."))
    assert translate(error) == (Cause.OWN_CODE, "w.pt is damaged.")


TRACEBACK = """Traceback (most recent call last):
  File "/site-packages/ray/_private/serialization.py", line 532, in deserialize_objects
    obj = self._deserialize_object(data, metadata, object_ref)
ModuleNotFoundError: No module named 'ensemble.members'; 'ensemble' is not a package
"""
LAST_LINE = "ModuleNotFoundError: No module named 'ensemble.members'; 'ensemble' is not a package."


@pytest.mark.parametrize(
    "error",
    [
        ray_exceptions.RaySystemError("No module named 'ensemble.members'", TRACEBACK),
        ray_exceptions.RayError(f"Exception X isn't serializable.\nOriginal details:\n{TRACEBACK}"),
        ray_exceptions.RaySystemError(
            "dependency failed",
            f"ray::train()\n  At least one of the input arguments for this task could not be "
            f"computed:\n{TRACEBACK}",
        ),
        ray_exceptions.RuntimeEnvSetupError(TRACEBACK),
    ],
    ids=["system", "not serializable", "argument", "setup"],
)
def test_the_reason_of_an_error_with_a_traceback_is_its_last_line(
    error: ray_exceptions.RayError,
) -> None:
    assert translate(error)[1] == LAST_LINE
    in_a_task = ray_exceptions.RayTaskError("train", "Traceback", error)
    assert translate(in_a_task)[1] == LAST_LINE


def test_the_reason_of_an_actor_that_could_not_start_is_what_its_constructor_raised() -> None:
    cause = ray_exceptions.RayTaskError("__init__", TRACEBACK, ImportError("ensemble.members"))
    assert translate(ray_exceptions.ActorDiedError(cause))[1] == LAST_LINE


def test_an_actor_that_could_not_start_is_told_apart_from_one_that_died() -> None:
    failed = ray_exceptions.RayTaskError("__init__", "Traceback", ValueError("no device"))
    assert translate(ray_exceptions.ActorDiedError(failed))[0] is Cause.START_FAILED
    assert translate(ray_exceptions.ActorDiedError())[0] is Cause.WORKER_LOST


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ray_exceptions.OutOfMemoryError("worker killed: low on memory"), Cause.WORKER_OOM),
        (ray_exceptions.NodeDiedError("node 1a2b died"), Cause.NODE_LOST),
        (ray_exceptions.ActorUnavailableError("no answer", None), Cause.UNREACHABLE),
        (ray_exceptions.ObjectLostError("00" * 28, None, ""), Cause.OBJECT_LOST),
        (ray_exceptions.OwnerDiedError("00" * 28, None, ""), Cause.OBJECT_LOST),
        (ray_exceptions.WorkerCrashedError(), Cause.WORKER_LOST),
        (ray_exceptions.RuntimeEnvSetupError("no pip"), Cause.START_FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ray_raises_becomes_a_fact(error: ray_exceptions.RayError, cause: Cause) -> None:
    translated, reason = translate(error)
    assert translated is cause
    assert reason.endswith(".")


def test_an_argument_that_could_not_be_made_is_told_by_what_happened_to_it() -> None:
    error = ray_exceptions.RayTaskError("predict", "Traceback", ray_exceptions.WorkerCrashedError())
    assert translate(error)[0] is Cause.WORKER_LOST
