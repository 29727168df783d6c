"""Files that name classes or map outputs onto them."""

import json
from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from ensemble.table.imports.class_files import read_class_map, read_classes

CLASS_FILES = {
    "list.json": json.dumps(["ant", "bee", "cat"]),
    "mark.json": "\ufeff" + json.dumps(["ant", "bee", "cat"]),
    "by-name.json": json.dumps({"cat": 2, "ant": 0, "bee": 1}),
    "by-number.json": json.dumps({"2": "cat", "0": "ant", "1": "bee"}),
    "lines.txt": "\ufeffant\r\nbee\r\n\r\ncat\r\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_files_of_class_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CLASS_FILES[name], encoding="utf-8")
    assert read_classes(tmp_path / name) == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["ant", "ant"]', "has the class 'ant' twice"),
        ('{"ant": 0, "bee": 2}', "does not number its classes from 0 to 1"),
        ('["ant", null]', "names a class None"),
        ('["ant"]', "names 1 classes; expected at least 2"),
        ("3", "holds int"),
    ],
)
def test_files_that_name_no_classes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_classes(tmp_path / "c.json")


@pytest.mark.parametrize("text", ["[0, 0]", "[true]", "[-1]", '["owl"]', "[1.5]", "[[0]]"])
def test_a_class_map_that_maps_to_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ConfigError, match="one of 2 classes or null, and no class twice"):
        read_class_map(tmp_path / "m.json", ["ant", "bee"])


def test_a_class_map_takes_numbers_and_names(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('["bee", null, 0]')
    assert read_class_map(tmp_path / "m.json", ["ant", "bee"]) == (1, None, 0)
