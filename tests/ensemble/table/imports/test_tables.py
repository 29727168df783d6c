"""CSV and Parquet files as programs and people write them."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ensemble.errors import DataError
from ensemble.table.imports.columns import assign_parts
from ensemble.table.imports.tables import decode_text, read_columns

SAME = {
    "plain": "image_id,a,b\ni0,0.25,0.75\ni1,1,0\n",
    "byte order mark": "\ufeffimage_id,a,b\ni0,0.25,0.75\ni1,1,0\n",
    "blank lines": "\n\nimage_id,a,b\n\ni0,0.25,0.75\n\ni1,1,0\n\n\n",
    "semicolons": "image_id;a;b\ni0;0.25;0.75\ni1;1;0\n",
    "decimal commas": "image_id;a;b\ni0;0,25;0,75\ni1;1;0\n",
    "tabs": "image_id\ta\tb\ni0\t0.25\t0.75\ni1\t1\t0\n",
    "quotes": '"image_id","a","b"\r\n"i0","0.25","0.75"\r\n"i1","1","0"\r\n',
    "spaces": "image_id, a, b\ni0, 0.25, 0.75\ni1, 1, 0",
    "a delimiter at the end": "image_id,a,b,\ni0,0.25,0.75,\ni1,1,0,\n",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_every_way_to_write_a_csv_is_the_same_table(
    tmp_path: Path, text: str, encoding: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    ids, a, b = read_columns(path)
    assert (ids.name, ids.texts().tolist()) == ("image_id", ["i0", "i1"])
    for column, expected in ((a, [0.25, 1]), (b, [0.75, 0])):
        numbers = column.numbers()
        assert numbers is not None
        assert numbers.tolist() == expected


def test_a_first_row_of_scores_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("i0,0.25,0.75\ni1,1,0\n")
    names = [column.name for column in read_columns(tmp_path / "a.csv")]
    assert names == ["0", "1", "2"]
    scores = np.array([[0.25, 0.75], [1, 0]])
    np.savetxt(tmp_path / "b.txt", scores)
    np.savetxt(tmp_path / "c.csv", scores, delimiter=",", header="a,b")
    for name, header in (("b.txt", ["0", "1"]), ("c.csv", ["a", "b"])):
        columns = read_columns(tmp_path / name)
        assert [column.name for column in columns] == header
        np.testing.assert_array_equal([column.numbers() for column in columns], scores.T)


BROKEN = {
    "rows of other lengths": (b"a,b\n1,2\n3\n", "row 2 has 1 cells and the first row 2"),
    "no rows": (b"a,b\n", "has a header and no rows"),
    "nothing": (b"", "has no rows"),
    "a name twice": (b"a,a\n1,2\n", "the column 'a' stands twice"),
    "not UTF-8": (b"a,b\n\xe9,2\n", "byte 4 is not utf-8. Save the file as UTF-8"),
    "NUL": (b"a,b\n1,\x002\n", "holds the character NUL"),
    "an open quote": (b'a,b\n"1,2\n', "Expected a CSV file"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_csv_is_one_message(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_columns(tmp_path / "a.csv")


def test_parquet_gives_numbers_text_and_lists_and_no_part_to_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {
        "id": pa.array(["x", "y"]).dictionary_encode(),
        "p": pa.array([[0.25, 0.75], [1, 0]]),
        "n": pa.array([1, 2], pa.decimal128(5)),
        "image": pa.array([{"bytes": b"a"}, {"bytes": b"b"}]),
    }
    parquet.write_table(pa.table(table), path)
    ids, lists, numbers, images = read_columns(path)
    assert ids.texts().tolist() == ["x", "y"]
    np.testing.assert_array_equal(lists.values, [[0.25, 0.75], [1, 0]])
    np.testing.assert_array_equal(numbers.values, [1, 2])
    assert assign_parts([ids, lists, images]).ignored == ("the column 'image'",)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="Expected a Parquet file"):
        read_columns(path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for name, kind in (("pipe.txt", "is no file"), ("", "is a folder"), ("gone", "is not there")):
        with pytest.raises(DataError, match=f"cannot read text from .*: it {kind}"):
            decode_text(tmp_path / name)
