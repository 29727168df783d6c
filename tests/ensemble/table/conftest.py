"""A store on one of the S3 servers, below a prefix of the test's own."""

import gc
from collections.abc import Callable, Iterator

import pytest

from ensemble.table.s3_store import S3Store
from ensemble.table.storage import StorageConfig

MakeStore = Callable[..., S3Store]


@pytest.fixture
def make_store(request: pytest.FixtureRequest, aws_keys: None) -> Iterator[MakeStore]:
    """A store below a prefix of the test's own."""
    prefix = request.node.name.translate({ord(c): "-" for c in "[]() /"})

    def make(port: int, **settings: object) -> S3Store:
        config = StorageConfig.model_validate({"endpoint": f"http://127.0.0.1:{port}"} | settings)
        return S3Store(f"s3://tables/{prefix}", config)

    yield make
    # s3fs closes its connections in a finaliser: here, and not in the middle of another test.
    gc.collect()
