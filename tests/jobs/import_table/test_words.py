"""Files as the command names them, and a name of its own for every member."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import ConfigError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.contents import ImportedFile
from jobs.import_table.words import Word, name_members, read_word


def test_a_word_is_a_file_with_a_name_or_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a=b.npy").touch()
    assert read_word("a.npy") == Word(Path("a.npy"))
    assert read_word("resnet-1=a.npy") == Word(Path("a.npy"), "resnet-1")
    assert read_word("m=~/a.npz") == Word(tmp_path / "a.npz", "m")
    assert read_word("a.npz:probs") == Word(Path("a.npz"), None, "probs")
    assert read_word("m=dir/a.npz:probs") == Word(Path("dir/a.npz"), "m", "probs")
    assert read_word(f"{tmp_path}/a=b.npy") == Word(tmp_path / "a=b.npy")
    assert read_word("fold/x=1/a.npy") == Word(Path("fold/x=1/a.npy"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("my member=a.npy", "'my member' of .* is no name of a member"),
        ("m=", "names no file; expected NAME=FILE"),
        ("~nobody-is-called-so/a.npy", "cannot find the home folder"),
    ],
)
def test_words_that_name_nothing_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_word(word)


def names(*words: tuple[str, str, list[str]]) -> list[str]:
    """Name the members of files, each given by path, NAME of the word, and names in the file."""
    row = np.array([[0.5, 0.5]])
    files = [
        ImportedFile(
            Path(path), tuple(ImportedPredictions(name, row, "probabilities") for name in members)
        )
        for path, _, members in words
    ]
    named = [Word(Path(path), name or None) for path, name, _ in words]
    return [member.name for member in name_members(named, files)[0]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("a.npy", "", ["a"]), ("b.npz", "", ["m", "n"])], ["a", "m", "n"]),
        ([("a.npz", "", ["m"]), ("b.npz", "", ["m"])], ["a.m", "b.m"]),
        ([("f0/p.npy", "", ["p"]), ("f1/p.npy", "", ["p"])], ["f0.p", "f1.p"]),
        ([("f0/x/p.npy", "", ["p"]), ("f1/x/p.npy", "", ["p"])], ["f0.p", "f1.p"]),
        ([("f0/p.npz", "", ["m"]), ("f1/p.npz", "", ["m"])], ["f0.p.m", "f1.p.m"]),
        ([("preds (1).npy", "", ["preds (1)"])], ["preds_1"]),
        ([("é.npy", "", ["é"])], ["member"]),
        ([("p.npy", "one", ["p"]), ("p.npy", "two", ["p"])], ["one", "two"]),
        ([("p.npz", "one", ["m", "n"])], ["one.m", "one.n"]),
        ([("p.npy", "", ["x" * 99])], ["x" * 64]),
    ],
)
def test_every_member_gets_a_name_of_its_own(
    words: list[tuple[str, str, list[str]]], expected: list[str]
) -> None:
    assert names(*words) == expected


def test_a_name_that_two_members_would_have_is_refused_with_the_word_to_type() -> None:
    with pytest.raises(ConfigError, match=r"'p' stands twice, in p\.npy\. .*: NAME=p\.npy"):
        names(("p.npy", "", ["p"]), ("p.npy", "", ["p"]))
    with pytest.raises(ConfigError, match="stands twice"):
        names(("a b.npy", "", ["a b"]), ("a_b.npy", "", ["a_b"]))
