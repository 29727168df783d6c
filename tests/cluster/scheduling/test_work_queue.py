from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.placement import HostPlan
from cluster.scheduling.work_queue import Call, ShardWindow, WorkQueue
from ensemble.images.shard import ShardSpec

from ...members import make_member

_MB = 1 << 20
SPECS = tuple(ShardSpec((str(number),)) for number in range(6))


A, B = make_member("a"), make_member("b")


def _calls() -> list[Call]:
    pairs = [(member, spec) for spec in SPECS for member in (A, B)]
    return [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]


def _drain(queue: WorkQueue, members: tuple[str, ...]) -> list[int]:
    orders = []
    while call := queue.peek(HostPlan(members)):
        queue.take(call)
        orders.append(call.order)
    return orders


def test_a_host_takes_its_members_calls_shard_by_shard() -> None:
    queue = WorkQueue(_calls())
    assert _drain(queue, ("b",)) == [1, 3, 5, 7, 9, 11]
    assert _drain(queue, ("a", "b")) == [0, 2, 4, 6, 8, 10]
    assert len(queue) == 0


def test_measuring_may_happen_anywhere() -> None:
    queue = WorkQueue([Call("measure", A, SPECS[:1])])
    assert _drain(queue, ()) == [0]


@given(st.permutations(range(12)), st.integers(0, 12))
def test_a_call_that_is_put_back_comes_in_its_place(order: list[int], taken: int) -> None:
    queue, calls = WorkQueue(_calls()), []
    for _ in range(taken):
        call = queue.peek(HostPlan(("a", "b")))
        assert call is not None
        queue.take(call)
        calls.append(call)
    for call in sorted(calls, key=lambda call: order[call.order]):
        queue.put_back(call)
    assert _drain(queue, ("a", "b")) == list(range(12))


def test_a_replica_takes_its_part_unless_it_has_its_gpu_to_itself() -> None:
    queue = WorkQueue(_calls())
    most, least = HostPlan(("a",), 0, fractions=(0.75,)), HostPlan(("a",), 1, fractions=(0.25,))
    taken = [0, 0]
    while any(queue.peek(host, is_alone=False) for host in (most, least)):
        for host in (least, most):
            if call := queue.peek(host, is_alone=False):
                queue.take(call, host.device)
                taken[host.device] += 1
    assert taken == [4, 2]
    again = WorkQueue(_calls())
    for _ in range(6):
        call = again.peek(least, is_alone=True)
        assert call is not None
        again.take(call, 1)
    assert again.peek(least) is None


def test_a_shard_that_is_dropped_is_dropped_for_every_member() -> None:
    queue = WorkQueue(_calls())
    assert [call.order for call in queue.drop(SPECS[1])] == [2, 3]
    assert _drain(queue, ("a", "b")) == [0, 1, *range(4, 12)]


def test_two_shards_are_always_open_and_more_as_their_size_allows() -> None:
    calls, window = _calls(), ShardWindow(window_mb=3)
    window.expect(calls)
    for spec in SPECS[:2]:
        assert window.has_room(spec)
        window.use(spec)
    assert not window.has_room(SPECS[2])  # no size is known yet
    window.settle(calls[0], {SPECS[0]: _MB})
    assert window.has_room(SPECS[2])
    window.use(SPECS[2])
    assert not window.has_room(SPECS[3])
    assert window.has_room(SPECS[0])  # it is open already: somebody waits for it


def test_a_shard_is_dropped_once_nobody_waits_for_it_and_the_bytes_are_too_many() -> None:
    calls, window = _calls(), ShardWindow(window_mb=1)
    window.expect(calls)
    window.use(SPECS[0])
    window.use(SPECS[1])
    assert window.settle(calls[0], {SPECS[0]: _MB}) == []
    assert window.settle(calls[2], {SPECS[1]: _MB}) == []  # b still waits for both
    assert window.settle(calls[1], {SPECS[0]: _MB}) == [SPECS[0]]


def test_spare_calls_wait_as_long_as_others_do_and_are_given_up_after_them() -> None:
    calls = _calls()
    for call in calls[4:]:
        call.is_spare = True
    queue = WorkQueue(calls)
    queue.give_up_spare()
    assert len(queue) == 12
    for _ in range(4):
        call = queue.peek(HostPlan(("a", "b")))
        assert call is not None
        assert not call.is_spare
        queue.take(call)
    queue.give_up_spare()
    assert len(queue) == 0
