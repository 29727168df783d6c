import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError, DamagedTableError, TableBusyError, TableError
from ensemble.members.member import Member
from ensemble.storage import s3_requests
from ensemble.storage.local_store import LocalStore
from ensemble.storage.open import open_store
from ensemble.storage.probe import probe, require_conditional_writes
from ensemble.storage.settings import StorageConfig
from ensemble.table.block import LogitBlock
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable

from ..conftest import MakeStore
from .fault_proxy import FaultProxy

# aiobotocore's connections are closed by their finaliser, and moto's server by its thread's end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(60)]
RCLONE = {"checksums": "when_required"}


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "FIRST_WAIT_S", 0.001)


def fill(table: LogitTable, member: Member, make_block: MakeBlock) -> None:
    for start in range(0, 60, 5):
        table.commit(member, make_block(member, IDS[start : start + 5]))


def test_objects_are_created_once_and_come_back(moto_port: int, make_store: MakeStore) -> None:
    store = make_store(moto_port)
    assert store.create("a/x", b"one")
    assert store.create("a/x", b"one")
    assert not store.create("a/x", b"two")
    assert store.read("a/x") == b"one"
    store.replace("a/x", b"three")
    assert store.create("a/b/y", b"")
    assert store.read_range("a/x", 1, 3) == b"hr"
    assert list(store.keys("a")) == ["a/b/y", "a/x"]
    assert store.folders("") == ("a",)
    assert store.folders("a") == ("b",)
    assert store.folders("none") == ()
    store.remove("a/x")
    store.remove("a/x")
    assert list(store.keys("a")) == ["a/b/y"]
    assert list(store.keys("none")) == []
    with pytest.raises(
        DamagedTableError, match=r"cannot read s3://tables/.*/a/x: there is no such"
    ):
        store.read("a/x")


def test_table_on_s3_is_the_one_on_disk(
    moto_port: int,
    make_store: MakeStore,
    make_member: MakeMember,
    make_block: MakeBlock,
    tmp_path: Path,
) -> None:
    member, store = make_member("a"), make_store(moto_port)
    with hold(store) as lease:
        fill(LogitTable(store, lease=lease), member, make_block)
        with (
            pytest.raises(TableBusyError, match=r"table s3://tables/.*: process \d+ on"),
            hold(store),
        ):
            pass
    fill(LogitTable(tmp_path), member, make_block)
    table = LogitTable(make_store(moto_port))
    assert (
        table.read(member.column, IDS).tobytes()
        == LogitTable(tmp_path).read(member.column, IDS).tobytes()
    )
    local = LocalStore(tmp_path)
    assert list(store.keys("columns")) == list(local.keys("columns"))
    assert all(store.read(key) == local.read(key) for key in local.keys("columns"))


def test_of_eight_writers_of_one_key_one_wins(moto_port: int, make_store: MakeStore) -> None:
    stores = [make_store(moto_port) for _ in range(8)]
    barrier = threading.Barrier(8)

    def write(number: int, key: str) -> bool:
        barrier.wait()
        return stores[number].create(key, f"writer {number}".encode())

    with ThreadPoolExecutor(8) as threads:
        for round_ in range(5):
            key = f"race/{round_}"
            won = list(threads.map(write, range(8), [key] * 8))
            assert sum(won) == 1
            assert stores[0].read(key) == f"writer {won.index(True)}".encode()


def test_dropped_replies_make_no_false_loss(
    moto_port: int, make_store: MakeStore, quick_retries: None
) -> None:
    with FaultProxy(moto_port, 0.5, seed=1, faults=("lost reply",)) as proxy:
        store = make_store(proxy.port)
        assert all(store.create(f"x/{i}", f"ours {i}".encode()) for i in range(20))
        assert not store.create("x/0", b"of somebody else")
        # The HTTP client itself repeats a GET whose connection was closed.
        assert proxy.injected.total() >= store.retries >= 3


def test_table_filled_through_faults_is_the_one_filled_without(
    moto_port: int,
    make_store: MakeStore,
    make_member: MakeMember,
    make_block: MakeBlock,
    quick_retries: None,
    tmp_path: Path,
) -> None:
    member = make_member("a")
    fill(LogitTable(tmp_path), member, make_block)
    with FaultProxy(moto_port, 0.3, seed=0) as proxy:
        store = make_store(proxy.port)
        with hold(store) as lease:
            fill(LogitTable(store, lease=lease), member, make_block)
        found = LogitTable(store).read(member.column, IDS)
        assert store.retries >= 3
        assert set(proxy.injected) >= {"503", "reset", "truncated", "lost reply"}
    assert found.tobytes() == LogitTable(tmp_path).read(member.column, IDS).tobytes()


def test_gateway_that_sends_everything_in_chunks_makes_no_difference(
    moto_port: int,
    make_store: MakeStore,
    make_member: MakeMember,
    make_block: MakeBlock,
    tmp_path: Path,
) -> None:
    member = make_member("a")
    fill(LogitTable(tmp_path), member, make_block)
    with FaultProxy(moto_port, 1, seed=0, faults=("chunked",)) as proxy:
        store = make_store(proxy.port)
        require_conditional_writes(store, StorageConfig())
        with hold(store) as lease:
            fill(LogitTable(store, lease=lease), member, make_block)
        rows = LogitTable(store).read(member.column, IDS)
        store.replace("x.png", b"0123456789")
        store.replace("x.png.txt", b"longer")
        assert store.find("x.png").size == 10
        assert store.read_unverified("x.png", 10) == b"0123456789"
        with pytest.raises(ValueError, match="more than 9 bytes"):
            store.read_unverified("x.png", 9)
        assert b"".join(store.read_pieces(store.find("x.png"))) == b"0123456789"
        with pytest.raises(DamagedTableError, match=r"find s3://.*/x: there is no such object"):
            store.find("x")
        assert store.retries == 0
    assert rows.tobytes() == LogitTable(tmp_path).read(member.column, IDS).tobytes()


def test_page_of_a_captive_portal_is_no_listing_and_no_object(
    moto_port: int, make_store: MakeStore, quick_retries: None
) -> None:
    make_store(moto_port).replace("log/x", b"x")
    with FaultProxy(moto_port, 1, seed=0, faults=("portal",)) as proxy:
        store = make_store(proxy.port, attempts=2)
        for request in (store.keys, store.folders):
            with pytest.raises(
                (ConfigError, TableError),
                match=r"cannot list .*not that of an S3 store: .*'tables'",
            ):
                list(request("log"))
        for request in (store.find, store.read, store.read_at_rest):
            with pytest.raises((ConfigError, TableError), match="not that of an S3 store"):
                request("log/x")


def test_object_is_modified_at_a_time_of_the_store(moto_port: int, make_store: MakeStore) -> None:
    store = make_store(moto_port)
    store.replace("a", b"a")
    store.replace("b", b"b")
    assert 0 <= store.modified_at("b") - store.modified_at("a") < 60
    with pytest.raises(DamagedTableError, match="there is no such object"):
        store.modified_at("c")


def test_names_beyond_the_first_thousand_are_listed_too(
    moto_port: int, make_store: MakeStore
) -> None:
    store = make_store(moto_port)
    names = [f"many/{number:04d} é+&.json" for number in range(1003)]
    for name in names:
        store._fs.call_s3(
            "put_object", Bucket="tables", Key=f"{store.url.split('/', 3)[3]}/{name}", Body=b"x"
        )
    assert list(store.keys("many")) == names
    assert store.folders("") == ("many",)


def test_upload_that_was_damaged_under_way_is_noticed_without_checksums_too(
    moto_port: int, make_store: MakeStore, quick_retries: None
) -> None:
    with FaultProxy(moto_port, 1, seed=0, faults=("flipped upload",)) as proxy:
        store = make_store(proxy.port, checksums="when_required")
        with pytest.raises(TableError, match=r"s3://.*/x is not what was written"):
            store.create("x", b"what was sent")
    assert make_store(moto_port).read("x") != b"what was sent"


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("s3://nobucket/x", {}, r"cannot write s3://nobucket/x/k: there is no bucket 'nobucket'"),
        (
            "s3://tables/x",
            {"endpoint": "http://127.0.0.1:1"},
            r"cannot write .*: 4 attempts failed, .* Mend storage.endpoint",
        ),
    ],
)
def test_store_that_is_not_what_the_settings_say_is_a_wrong_setting(
    moto_port: int, quick_retries: None, url: str, settings: dict[str, str], message: str
) -> None:
    given = {"endpoint": f"http://127.0.0.1:{moto_port}"} | settings
    with pytest.raises(ConfigError, match=message):
        open_store(url, StorageConfig.model_validate(given)).replace("k", b"x")


def test_store_that_never_answers_is_given_up_loudly(
    moto_port: int, make_store: MakeStore, quick_retries: None
) -> None:
    with FaultProxy(moto_port, 1, seed=0, faults=("503",)) as proxy:
        store = make_store(proxy.port, attempts=3)
        with pytest.raises(
            TableError, match=r"cannot write s3://.*/x: 3 attempts failed, the last"
        ):
            store.replace("x", b"x")
        assert store.retries == 2


def test_flipped_bit_at_rest_is_found_on_s3_too(
    moto_port: int, make_store: MakeStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    member, store = make_member("a"), make_store(moto_port)
    fill(LogitTable(store), member, make_block)
    key = next(store.keys("columns"))
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 1
    store.replace(key, bytes(data))
    with pytest.raises(DamagedTableError, match=rf"the shard s3://.*{key} \(a\) is damaged"):
        LogitTable(store).read(member.column, IDS)


def test_slice_from_s3_reads_little_more_than_what_is_asked_for(
    moto_port: int, make_store: MakeStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    member = make_member("wide", num_classes=200)
    ids = [f"{i:05d}" for i in range(4000)]
    LogitTable(make_store(moto_port)).commit(member, make_block(member, ids))
    with FaultProxy(moto_port, 0, seed=0) as proxy:
        table = LogitTable(make_store(proxy.port))
        before = proxy.body_bytes
        found = table.read(member.column, ids[1500:2500])
        assert np.array_equal(found, make_block(member, ids[1500:2500]).log_probabilities)
        assert (proxy.body_bytes - before) / found.nbytes < 1.3


def test_probe_finds_every_promise_kept_by_a_store_with_conditional_writes(
    moto_port: int, make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store(moto_port)
    assert all(finding.is_kept for finding in probe(store))
    assert len(probe(store)) == 4
    require_conditional_writes(store, StorageConfig())
    assert list(store.keys("probe")) == []
    assert all(finding.is_kept for finding in probe(LocalStore(tmp_path)))


def test_store_without_conditional_writes_is_named_and_refused(
    rclone_port: int, make_store: MakeStore
) -> None:
    store = make_store(rclone_port, **RCLONE)
    kept = {finding.promise: finding.is_kept for finding in probe(store)}
    assert kept["what is written can be read"]
    assert kept["a range is its bytes"]
    assert not kept["an object is created once (If-None-Match)"]
    with pytest.raises(
        ConfigError, match=r"the store of s3://tables/.* ignores If-None-Match.*single_writer=true"
    ):
        require_conditional_writes(store, StorageConfig())


def test_single_writer_mode_keeps_a_table_on_such_a_store(
    rclone_port: int, make_store: MakeStore, make_member: MakeMember, make_block: MakeBlock
) -> None:
    store = make_store(rclone_port, **RCLONE, single_writer=True)
    require_conditional_writes(store, StorageConfig(single_writer=True))
    member = make_member("a")
    fill(LogitTable(store), member, make_block)
    assert LogitTable(store).read(member.column, IDS).shape == (60, 3)
    assert not store.create(next(store.keys("columns")), b"other content")


def test_wrong_keys_are_said_to_be_wrong_and_not_shown(
    rclone_port: int, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    store = make_store(rclone_port, **RCLONE)
    with pytest.raises(ConfigError, match=r"the store refuses .* Set AWS_ACCESS_KEY_ID") as caught:
        store.replace("x", b"x")
    assert "wrong-and-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "how"), [(3600, "60 minutes behind"), (-3600, "60 minutes ahead of")]
)
def test_a_clock_that_is_not_the_stores_is_told_and_no_key_is_blamed(
    seconds: int, how: str, moto_port: int, make_store: MakeStore, fault_proxy: type[FaultProxy]
) -> None:
    with fault_proxy(moto_port, 1.0, 0, (f"{seconds} s ahead",)) as proxy:
        store = make_store(proxy.port)
        for request in (lambda: store.replace("x", b"x"), lambda: store.read("x")):
            with pytest.raises(ConfigError, match=rf"{how} the store's.*Set the clock") as told:
                request()
            assert "AWS_ACCESS_KEY_ID" not in str(told.value)


@pytest.mark.parametrize("place", ["gs://bucket/x", "s3:/bucket/x", "http://host/x"])
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot keep a table at .*expected a folder or s3://"):
        open_store(place, StorageConfig())


def test_place_without_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigError, match="'s3:///x' names no bucket; expected s3://bucket/prefix"):
        open_store("s3:///x", StorageConfig())
