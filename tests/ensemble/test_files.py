import json
import os
import signal
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.files import (
    make_folder,
    overwrite,
    partial_file,
    publish,
    publish_folder,
    read_text,
    remove_abandoned,
    seal,
    sha256_of,
    unseal,
    write_atomic,
)


@pytest.mark.parametrize(
    ("content", "expected"), [(b"\x00\xff", b"\x00\xff"), ("naïve\n", "naïve\n".encode())]
)
def test_a_file_holds_what_was_written_and_is_alone_in_its_new_folder(
    tmp_path: Path, content: bytes | str, expected: bytes
) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    write_atomic(path, "an older and longer content")
    write_atomic(path, content)
    assert path.read_bytes() == expected
    assert os.listdir(path.parent) == ["file.json"]


def test_a_name_that_cannot_be_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "occupied" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="occupied"):
        write_atomic(tmp_path / "occupied", b"content")
    assert os.listdir(tmp_path) == ["occupied"]


def test_an_error_while_writing_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError, match="bytes-like"), partial_file(tmp_path) as file:
        file.writelines([b"new", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_is_not_published_goes_away(tmp_path: Path) -> None:
    with partial_file(tmp_path) as file:
        file.write(b"content")
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_the_name_may_depend_on_what_was_written(tmp_path: Path) -> None:
    with partial_file(tmp_path) as file:
        for piece in (b"some ", b"content"):
            file.write(piece)
        publish(file, tmp_path / "some-content")
    assert (tmp_path / "some-content").read_bytes() == b"some content"
    assert os.listdir(tmp_path) == ["some-content"]


def test_a_partial_file_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"), partial_file(tmp_path / "none"):
        pass


def test_a_killed_writer_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    writer = get_context("fork").Process(target=_die_while_writing, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_only_partial_files_that_nobody_writes_any_more_are_removed(tmp_path: Path) -> None:
    abandoned = [tmp_path / f".{'0' * 32}.partial", tmp_path / "figures" / f".{'a' * 32}.partial"]
    others = [tmp_path / "weights.safetensors", tmp_path / ".mine.partial"]
    (tmp_path / "figures").mkdir()
    for path in (*abandoned, *others):
        path.write_bytes(b"content")
        os.utime(path, (0, 0))
    with partial_file(tmp_path) as file:
        assert remove_abandoned(tmp_path) == tuple(sorted(abandoned))
        publish(file, tmp_path / "published")
    assert all(path.exists() for path in (*others, tmp_path / "published"))
    assert remove_abandoned(tmp_path) == remove_abandoned(tmp_path / "nowhere") == ()


def test_a_folder_takes_the_place_of_an_older_one_as_a_whole(tmp_path: Path) -> None:
    path, partial = tmp_path / "artifact", tmp_path / ".artifact.part"
    for folder, names in ((path, ("old", "both")), (partial, ("both", "sub/new"))):
        for name in names:
            write_atomic(folder / name, f"{folder.name}/{name}")
    publish_folder(partial, path)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert {file.relative_to(path).as_posix() for file in files} == {"both", "sub/new"}
    assert (path / "both").read_text() == ".artifact.part/both"
    assert os.listdir(tmp_path) == ["artifact"]


def test_making_a_folder_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    write_atomic(tmp_path / "a" / "b" / "file", b"content")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


@given(st.binary(max_size=3000))
def test_a_digest_is_that_of_the_content(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert sha256_of(path) == sha256(content).hexdigest()


def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path: Path) -> None:
    path, partial = tmp_path / "artifact", tmp_path / ".artifact.part"
    write_atomic(path / "file", "0")
    (tmp_path / ".artifact.0123.replaced" / "file").mkdir(parents=True)
    reader = get_context("fork").Process(target=_read_until_the_last, args=(path / "file",))
    reader.start()
    for count in range(1, 300):
        write_atomic(partial / "file", str(count))
        publish_folder(partial, path)
    reader.join()
    assert reader.exitcode == 0
    assert os.listdir(tmp_path) == ["artifact"], "nor is anything left of an earlier crash"


def test_a_file_is_written_over_in_its_place_if_it_is_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        overwrite(path, b"new")
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="7 bytes do not fit into 5"):
        overwrite(path, b"too new")
    assert path.read_bytes() == b"older"
    overwrite(path, b"new")
    assert path.read_bytes() == b"new"


_JSON = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key != "sha256"),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    ),
    max_size=4,
)


@given(_JSON, st.integers(0), st.integers(0, 7))
def test_a_sealed_document_comes_back_or_is_refused(
    document: dict[str, object], place: int, bit: int
) -> None:
    text = bytearray(json.dumps(seal(document)).encode())
    assert unseal(json.loads(text)) == document
    assert unseal(document) == document, "older ones have no seal"
    text[place % len(text)] ^= 1 << bit
    try:
        changed = json.loads(text)
        content = unseal(changed)
    except (ValueError, AttributeError):
        return
    # What is left are changes that JSON does not see, and those of the key of the seal itself.
    assert content == document or (changed.keys() - document.keys()) != {"sha256"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\ufffe")))
def test_a_text_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, encoding: str, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_bytes(text.encode(encoding))
    assert read_text(path) == text


def _read_until_the_last(path: Path) -> None:
    while path.read_text() != "299":
        pass


def _die_while_writing(folder: Path) -> None:
    with partial_file(folder) as file:
        file.write(b"half of the new")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
