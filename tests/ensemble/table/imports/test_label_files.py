"""Files of labels, by row or by image id."""

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError, DataError
from ensemble.table.imports.label_files import read_labels

NAMES = ["cat", "ant", "bee", "bee"]

BY_ID = {
    "a.csv": "image_id,label\ni0,cat\ni1,ant\ni2,bee\ni3,bee\n",
    "b.csv": "\ufeffClass;File Name\n\ncat;i0\nant;i1\nbee;i2\nbee;i3\n",
    "no-header.csv": "i0,bee\ni1,ant\n",
    "c.json": json.dumps(dict(zip(["i0", "i1", "i2", "i3"], NAMES, strict=True))),
    "d.json": json.dumps(
        [{"id": f"i{row}", "label": name, "size": 3} for row, name in enumerate(NAMES)]
    ),
    "e.tsv": "species\tphoto\ncat\ti0\nant\ti1\nbee\ti2\nbee\ti3\n",
}


@pytest.mark.parametrize("name", [name for name in BY_ID if name != "no-header.csv"])
def test_labels_by_id_are_read_from_any_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BY_ID[name], encoding="utf-8")
    labels = read_labels(tmp_path / name)
    assert labels.values.tolist() == NAMES
    assert labels.image_ids is not None
    assert labels.image_ids.tolist() == ["i0", "i1", "i2", "i3"]
    assert labels.ignored == (("the column 'size'",) if name == "d.json" else ())


def test_a_first_row_that_is_a_label_is_not_taken_for_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("i0,2\ni1,0\n")
    labels = read_labels(tmp_path / "a.csv")
    assert labels.image_ids is not None
    assert (labels.image_ids.tolist(), labels.values.tolist()) == (["i0", "i1"], [2, 0])
    (tmp_path / "b.txt").write_text("ant\nbee\nant\n")
    assert read_labels(tmp_path / "b.txt").values.tolist() == ["ant", "bee", "ant"]
    (tmp_path / "c.csv").write_text("label\n2\n0\n")
    assert read_labels(tmp_path / "c.csv").values.tolist() == [2, 0]


WRONG_FILES = {
    "deep.json": ("[" * 100_000, ConfigError, "cannot read"),
    "ragged.json": ("[[0], [1, 2]]", DataError, "not rows of one length"),
    "mixed.json": ('["ant", 1]', DataError, "of the types int, str"),
    "huge.json": (f"[{10**30}]", DataError, "the type object"),
    "text.json": ('"ant"', ConfigError, "holds str; expected a JSON list"),
    "broken.json": ("[", ConfigError, "cannot read"),
    "many.csv": ("a,b,c\n1,2,3\n", DataError, "it has the columns 'a', 'b', 'c'. Expected columns"),
    "differ.csv": ("id,label,target\ni0,1,2\ni1,0,2\n", DataError, "hold different labels"),
    "l.pkl": ("x", DataError, r"expected \.npy, \.npz"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_file_that_holds_no_labels_is_one_message(tmp_path: Path, name: str) -> None:
    text, kind, message = WRONG_FILES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(kind, match=message):
        read_labels(tmp_path / name)


def test_what_is_not_there_or_needs_a_pickle_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is not there"):
        read_labels(tmp_path / "nowhere.npy")
    with pytest.raises(DataError, match="it is a folder"):
        read_labels(tmp_path)
    np.save(tmp_path / "o.npy", np.array(["ant", 1], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"Objects are pickled.*np\.array\(names, dtype=str\)"):
        read_labels(tmp_path / "o.npy")


def test_ids_that_are_no_text_and_no_numbers_are_one_message(tmp_path: Path) -> None:
    pairs = np.zeros(4, dtype=[("a", "<i4"), ("b", "<f4")])
    for ids in (pairs, np.zeros((4, 2)), np.array([0.5, 1, 2, 3])):
        np.savez(tmp_path / "l.npz", labels=np.arange(4), ids=ids)
        with pytest.raises(DataError, match=r"the ids 'ids' of .*; expected"):
            read_labels(tmp_path / "l.npz")
