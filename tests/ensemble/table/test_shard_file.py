from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ensemble.errors import ShapeError, TableError
from ensemble.members.member import Member
from ensemble.table import shard_file
from ensemble.table.block import LogitBlock
from ensemble.table.log_entry import PIECE_BYTES

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]


def block(image_ids: list[str], rows: np.ndarray) -> LogitBlock:
    return LogitBlock("c0ffee", np.array(image_ids, np.str_), rows, (), 0.0, 0)


def data_of(encoded: shard_file.Encoded) -> bytes:
    return b"".join(encoded.parts)


@settings(deadline=None)
@given(
    rows=arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 6), st.integers(1, 5)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    data=st.data(),
)
def test_any_rows_and_any_ids_come_back_to_the_bit(rows: np.ndarray, data: st.DataObject) -> None:
    # NumPy's text drops NULs at its end, and neither it nor Arrow takes half a surrogate pair.
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    ids = data.draw(st.lists(text, min_size=len(rows), max_size=len(rows)))
    encoded = shard_file.encode(block(ids, rows))
    image_ids, found = shard_file.decode(data_of(encoded), "c0ffee", "a file")
    assert image_ids == tuple(ids)
    assert found.shape == rows.shape
    assert found.tobytes() == rows.tobytes()


def test_file_is_a_function_of_column_ids_and_rows_alone(
    make_member: MakeMember, make_block: MakeBlock
) -> None:
    first = shard_file.encode(make_block(make_member(), ["a", "b"]))
    costlier = shard_file.encode(make_block(make_member(name="a"), ["a", "b"], bad=["c"]))
    assert data_of(first) == data_of(costlier)
    another = shard_file.encode(make_block(make_member("b"), ["a", "b"]))
    assert data_of(first) != data_of(another)


@pytest.mark.parametrize("num_rows", [0, 1, 100, 1000])
def test_parts_digests_and_place_of_the_rows_are_those_of_the_whole_file(num_rows: int) -> None:
    rows = np.random.default_rng(0).standard_normal((num_rows, 500), np.float32)
    encoded = shard_file.encode(block([f"{i}" for i in range(num_rows)], rows))
    data = data_of(encoded)
    assert encoded.size_bytes == len(data)
    assert encoded.pieces == tuple(
        sha256(data[at : at + PIECE_BYTES]).hexdigest() for at in range(0, len(data), PIECE_BYTES)
    )
    assert data[encoded.values_start :][: rows.nbytes] == rows.tobytes()
    with pa.ipc.open_file(data) as reader:
        assert reader.get_batch(0).num_rows == num_rows


def test_rows_that_lie_across_memory_are_written_as_they_look() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2).T
    _, found = shard_file.decode(
        data_of(shard_file.encode(block(["a", "b"], rows))), "c0ffee", "a file"
    )
    assert np.array_equal(found, rows)


def test_file_of_another_column_is_refused() -> None:
    data = data_of(shard_file.encode(block(["a"], np.zeros((1, 2), np.float32))))
    with pytest.raises(
        TableError, match="shard a file belongs to column c0ffee; expected column 0"
    ):
        shard_file.decode(data, "0", "a file")


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"something else altogether"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TableError, match="the shard a file is not an Arrow file"):
        shard_file.decode(data, "c0ffee", "a file")


def test_arrow_file_of_somebody_else_is_refused() -> None:
    batch = pa.record_batch({"x": [1, 2]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(TableError, match=r"belongs to column \?; expected column c0ffee"):
        shard_file.decode(sink.getvalue().to_pybytes(), "c0ffee", "a file")


def test_block_keeps_only_the_images_asked_for(
    make_member: MakeMember, make_block: MakeBlock
) -> None:
    whole = make_block(make_member(), ["a", "b", "c"], bad=["d", "e"])
    kept = whole.only({"c", "a", "e"})
    assert kept.image_ids.tolist() == ["a", "c"]
    assert np.array_equal(kept.log_probabilities, whole.log_probabilities[[0, 2]])
    assert [bad.image_id for bad in kept.bad] == ["e"]
    assert kept.forward_passes == whole.forward_passes


def test_block_with_another_number_of_ids_than_rows_is_refused(shapes_unchecked: None) -> None:
    with pytest.raises(ShapeError, match="column c0ffee has 1 image ids and 2 rows; expected one"):
        block(["a"], np.zeros((2, 3), np.float32))
