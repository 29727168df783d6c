import numpy as np

from jobs.benchmark.synthetic_pool import SyntheticPool


def test_synthetic_predictions_are_float32_log_probabilities_by_seed() -> None:
    pool = SyntheticPool(num_members=3, num_classes=20)
    labels = pool.labels(50)
    columns = list(pool.columns(labels))
    assert [column.dtype for column in columns] == [np.float32] * 3
    for column in columns:
        np.testing.assert_allclose(np.exp(column).sum(axis=1), 1, rtol=1e-5)
    for column, again in zip(columns, pool.columns(pool.labels(50)), strict=True):
        assert column.tobytes() == again.tobytes()
    errors = [(column.argmax(axis=1) != labels).mean() for column in columns]
    assert errors[-1] < errors[0]
