"""The history: numbers that nobody gets twice, on a folder and on S3, and outcomes that are checked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.nightly.outcomes import Outcomes
from ensemble.report.documents.nightly import Acknowledge
from ensemble.storage.local_store import LocalStore
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config
from ensemble.storage.store import Store
from jobs.nightly.history import append, read_history, read_outcomes, write_outcomes


def _write_all(stores: list[Store], count: int) -> list[int]:
    """Let each writer write so many records, and give the numbers that they got."""

    def write(entry: tuple[int, Store]) -> list[int]:
        writer, store = entry
        numbers, last = [], 0
        for index in range(count):
            record = Acknowledge(alert=f"{writer}/{index}", until=date(2026, 11, 27))
            last = append(store, record, last)
            numbers.append(last)
        return numbers

    with ThreadPoolExecutor(len(stores)) as pool:
        return [number for numbers in pool.map(write, enumerate(stores)) for number in numbers]


def _check(store: Store, numbers: list[int], total: int) -> None:
    assert sorted(numbers) == list(range(1, total + 1))
    history = read_history(store)
    assert [entry.number for entry in history.records] == list(range(1, total + 1))
    alerts = {r.record.alert for r in history.records if isinstance(r.record, Acknowledge)}
    assert len(alerts) == total


def test_writers_beside_each_other_get_consecutive_numbers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    _check(store, _write_all([store] * 4, 5), 20)


@pytest.fixture
def s3_stores(moto_port: int) -> list[Store]:
    config = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    return [open_store("s3://tables/nightly-history", config) for _ in range(16)]


@pytest.mark.nightly
def test_sixteen_writers_of_a_hundred_records_lose_none_on_s3(s3_stores: list[Store]) -> None:
    _check(s3_stores[0], _write_all(s3_stores, 100), 1600)


def test_outcomes_that_were_changed_are_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ones = np.ones(3, np.int32)
    outcomes = Outcomes(ones, ones, ones.astype(np.float32), ones.astype(np.float32))
    digest = write_outcomes(store, outcomes)
    assert read_outcomes(store, digest).sha256 == digest
    other = Outcomes(0 * ones, ones, ones.astype(np.float32), ones.astype(np.float32))
    store.replace(f"outcomes/{digest}.npz", other.encode())
    with pytest.raises(DataError, match="holds other numbers than its name says"):
        read_outcomes(store, digest)
    store.replace(f"outcomes/{digest}.npz", b"nonsense")
    with pytest.raises(DataError, match="does not hold the outcomes of a night"):
        read_outcomes(store, digest)
    store.remove(f"outcomes/{digest}.npz")
    with pytest.raises(DataError, match="the outcomes of a night cannot be read"):
        read_outcomes(store, digest)
