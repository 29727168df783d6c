"""Documents of artifacts that were changed, by accident or by somebody."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ensemble.artifact.document import FILE_NAME, ArtifactDocument
from ensemble.artifact.read import load_unchanged, read, read_document
from ensemble.errors import CheckpointError
from ensemble.files import seal

DOCUMENT: dict[str, Any] = {
    "classes": ["cat", "dog"],
    "data_sha256": "d" * 64,
    "search": "paper",
    "members": [
        {
            "name": name,
            "file": f"members/{name}.safetensors",
            "sha256": "0" * 64,
            "weight_units": units,
            "views": {"kind": "center"},
            "temperature": 1.25,
        }
        for name, units in (("a", 60_000), ("b", 40_000))
    ],
    "fallbacks": [{"missing": "a", "weight_units": {"b": 100_000}}],
    "temperature": 1.5,
}


def sealed() -> bytes:
    document = ArtifactDocument.model_validate(DOCUMENT).model_dump(mode="json")
    return (json.dumps(seal(document), indent=2) + "\n").encode()


def test_sealed_document_is_read_and_so_is_an_older_one_without_a_seal(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(sealed())
    document = read_document(tmp_path)
    (tmp_path / FILE_NAME).write_text(json.dumps(DOCUMENT | {"schema_version": 2}))
    older = read_document(tmp_path)
    assert document.members == older.members
    assert [entry.weight_units for entry in document.members] == [60_000, 40_000]


@pytest.mark.parametrize(
    ("old", "new"), [("60000", "60001"), ("1.25", "1.35"), ('"cat"', '"cap"'), ("1.5", "2.5")]
)
def test_changed_figure_is_a_reason_to_stop(tmp_path: Path, old: str, new: str) -> None:
    text = sealed().decode()
    assert old in text
    (tmp_path / FILE_NAME).write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=r"damaged or changed since it was written.*Copy the"):
        read_document(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "{}", "[" * 100_000, "\xff", "null"])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="is not an ensemble"):
        read_document(tmp_path)


def mutate(text: bytes, rng: random.Random) -> bytes:
    """Change, drop, double or replace a few bytes or words."""
    content = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content))
        match rng.randrange(5):
            case 0:
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                del content[place : place + rng.randint(1, 40)]
            case 2:
                content[place:place] = content[place : place + rng.randint(1, 40)]
            case 3:
                word = rng.choice(
                    [b"null", b"-1", b"1e999", b"NaN", b"{}", b"[]", b'"../x"', b"\\u0000"]
                )
                content[place : place + rng.randint(0, 6)] = word
            case _:
                content[place : place + 1] = rng.randbytes(2)
        if not content:
            break
    return bytes(content)


def check_mutated(folder: Path, count: int, has_seal: bool) -> int:
    """Read so many mutated documents; return how many were taken, which must be as they were."""
    rng, sound, taken = random.Random(0), sealed(), 0
    if not has_seal:
        sound = json.dumps(DOCUMENT, indent=2).encode()
    (folder / FILE_NAME).write_bytes(sound)
    expected = read_document(folder)
    for _ in range(count):
        (folder / FILE_NAME).write_bytes(mutate(sound, rng))
        try:
            document = read_document(folder)
            taken += 1
            if has_seal:
                assert document == expected, "a silent difference"
            read(folder)
        except CheckpointError:
            continue
    return taken


@pytest.mark.parametrize("has_seal", [True, False])
def test_mutated_documents_are_refused_or_as_they_were(tmp_path: Path, has_seal: bool) -> None:
    check_mutated(tmp_path, 300, has_seal)


@pytest.mark.nightly
@pytest.mark.parametrize("has_seal", [True, False])
def test_ten_thousand_mutated_documents(tmp_path: Path, has_seal: bool) -> None:
    check_mutated(tmp_path, 10_000, has_seal)


def test_artifact_that_was_replaced_while_it_was_loaded_is_loaded_once_more(tmp_path: Path) -> None:
    document = tmp_path / FILE_NAME
    document.write_text("old")
    seen: list[str] = []

    def load() -> str:
        seen.append(document.read_text())
        if len(seen) == 1:
            document.write_text("new")
            raise CheckpointError("a file of the old one is gone")
        return seen[-1]

    assert load_unchanged(tmp_path, load) == "new"
    assert seen == ["old", "new"]


def test_artifact_that_cannot_be_loaded_is_an_error_at_once(tmp_path: Path) -> None:
    def load() -> None:
        raise CheckpointError("damaged")

    for content in (None, "damaged"):
        if content is not None:
            (tmp_path / FILE_NAME).write_text(content)
        with pytest.raises(CheckpointError, match="damaged"):
            load_unchanged(tmp_path, load)
