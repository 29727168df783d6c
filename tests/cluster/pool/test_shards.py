from cluster.pool.shards import Shards
from cluster.scheduling.work_queue import Call
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import plan_shards

from ...members import make_member


def test_a_call_that_is_settled_holds_no_pixels() -> None:
    """The pool has its calls until the last one is done; decoded shards would stay in the store as long."""
    (spec,) = plan_shards(["a", "b"], 2)
    shards, call = Shards(DigitsConfig(), 256), Call("predict", make_member("m"), (spec,))
    shards.expect([call])
    call.pixels = ("a reference",)
    shards.settle(call)
    assert call.pixels == ()
