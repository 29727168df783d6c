from cluster.failures import MAX_ATTEMPTS, Cause, Decision, Failure, decide


def test_own_code_is_not_tried_again() -> None:
    assert decide(Failure(Cause.OWN_CODE, 1)) is Decision.RAISE


def test_a_lost_host_is_replaced_until_attempts_run_out() -> None:
    decisions = [decide(Failure(Cause.HOST_LOST, n)) for n in range(1, MAX_ATTEMPTS + 1)]
    assert decisions == [Decision.REPLACE_HOST] * (MAX_ATTEMPTS - 1) + [Decision.RAISE]


def test_a_lost_object_is_asked_for_again() -> None:
    assert decide(Failure(Cause.OBJECT_LOST, 1)) is Decision.RETRY
