from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import ConfigError
from ensemble.pretrained.label_map import output_rows

BIRDS = ["n01440764 tench, Tinca tinca", "n02012849 crane", "n03126707 crane", "n01514859 hen"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(BIRDS))
    return path


def test_outputs_are_the_classes_where_nothing_else_is_said() -> None:
    assert output_rows("a", None, 3, ["x", "y", "z"]) == (0, 1, 2)


def test_background_class_that_comes_first_is_dropped() -> None:
    assert output_rows("a", "background_first", 4, ["x", "y", "z"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("label_map", "outputs", "match"),
    [
        (None, 4, r"'a' has 4 outputs, and the images have 3 classes\. Expected one for each"),
        (None, 9, r"'a' has 9 outputs, and the images have 3 classes\. Expected one"),
        ("background_first", 3, r"3 outputs, of which the first is dropped, and the images have 3"),
    ],
)
def test_other_counts_are_refused(label_map: None, outputs: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        output_rows("a", label_map, outputs, ["x", "y", "z"])


@pytest.mark.parametrize(
    ("outputs", "classes", "is_plausible"),
    [(4, 3, False), (11, 10, False), (1000, 999, False), (1002, 1001, False), (1001, 1000, True)],
)
def test_a_background_class_is_spoken_of_only_where_one_is_known(
    outputs: int, classes: int, is_plausible: bool
) -> None:
    with pytest.raises(ConfigError) as caught:
        output_rows("a", None, outputs, [f"class {i}" for i in range(classes)])
    assert ("background_first" in str(caught.value)) == is_plausible
    assert "set label_map to its path" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n"])
def test_map_is_read_as_an_editor_saved_it(
    tmp_path: Path, encoding: str, newline: str, end: str
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(("fox\nché\nhen".replace("\n", newline) + end).encode(encoding))
    assert output_rows("a", path, 3, ["ché", "fox"]) == (1, 0)


def test_map_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xff\x00\x81\x80")
    with pytest.raises(ConfigError, match="cannot read the label map"):
        output_rows("a", path, 3, ["fox"])


@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        (["n01514859", "n01440764"], (3, 0)),  # by wnid; the others are not asked for
        (["n03126707", "n02012849"], (2, 1)),  # though they share a name
        (["hen", "tench"], (3, 0)),
        (["Hen", "tench, tinca tinca"], (3, 0)),
        (["n02012849 crane"], (1,)),
    ],
)
def test_classes_are_found_by_wnid_or_name(
    path: Path, classes: list[str], rows: tuple[int, ...]
) -> None:
    assert output_rows("a", path, 4, classes) == rows


@pytest.mark.parametrize(
    ("classes", "outputs", "match"),
    [
        (["crane"], 4, r"the class 'crane' of the images means the outputs \[1, 2\] of 'a'"),
        (["cock"], 4, r"the class 'cock' of the images is none of the outputs of 'a'"),
        (["hen"], 5, r"has 4 lines, and the network has 5 outputs"),
    ],
)
def test_map_that_does_not_decide_is_refused(
    path: Path, classes: list[str], outputs: int, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        output_rows("a", path, outputs, classes)


def test_map_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the label map .*none\.txt' of 'a'"):
        output_rows("a", tmp_path / "none.txt", 1, ["x"])


@given(st.permutations([f"n{i:08d}" for i in range(12)]))
def test_any_order_of_outputs_is_undone(
    tmp_path_factory: pytest.TempPathFactory, order: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "order.txt"
    path.write_text("\n".join(order))
    classes = sorted(order)
    rows = output_rows("a", path, 12, classes)
    assert [order[row] for row in rows] == classes
