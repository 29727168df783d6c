"""Words of every verb, as a careless or a hostile hand types them: one message, no traceback, no escape sequence."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jobs import __main__ as command

KEYS = [
    "seed",
    "name",
    "runs",
    "images.source.kind",
    "images.source.path",
    "images.split.train",
    "images.split",
    "members",
    "members.0.name",
    "members.0.source",
    "members.0.views",
    "members.99.name",
    "search.k",
    "search.kind",
    "search.costs",
    "search.max_cost",
    "k",
    "kind",
    "temperature",
    "cross_fit",
    "views",
    "precision",
    "recipes.default.epochs",
    "pool",
    "weights.mirror",
    "subclassifiers.num_clusters",
    "subclassifiers.base",
    "num_clusters",
    "base",
    "report.top_k",
    "table.dtype",
    "storage.endpoint",
    "storage.profile",
    "storage.runs",
    "storage.region",
    "cluster.hosts",
    "cluster.gpus",
    "cluster.figures",
    "schema_version",
    "endpoint",
    "probe",
    "place",
    "shards",
    "images",
]
# What a setting may hold that the YAML of a stranger can: no value here makes a verb work for long.
VALUES = [
    "1",
    "-1",
    "0",
    "1e3",
    "1e309",
    ".nan",
    ".inf",
    "true",
    "null",
    "~",
    "''",
    "x",
    "'a",
    "b'",
    '"a\\0b"',
    '"\\x1b[2J"',
    '"\\u202e"',
    "2020-01-01",
    "0x1f",
    "010",
    "!!binary|x",
    "!!python/object:os.system",
    "[]",
    "{}",
    "[1,2]",
    "{a:1}",
    "[[[]]]",
    "&a",
    "*a",
    "<<:x",
    "a:b:c",
    "#x",
    "@x",
    "%x",
    "`x`",
    "-",
    "---",
    "...",
    "/",
    ".",
    "..",
    "~/x",
    "/no/such",
    "s3://",
    "s3://b",
    "s3://b/k?x",
    "s3://u:p@b/k",
    "file:///etc/passwd",
    "http://x",
    "\\",
    "'",
    '"',
    "{",
    "[",
    "}",
    "]",
]
HOSTILE = (
    "seed=[&a [1], *a]",
    "images={a: &a [x,x], b: &b [*a,*a], c: [*b,*b]}",
    "search={k: 1, k: 2}",
    "seed=" + "[" * 5000,
    "seed=" + "{a: " * 2000,
    "seed=1\nname: x",
    "<<=1",
    "seed=&a 1",
    "x=" + "9" * 5000,
)
VERBS = (
    ("validate",),
    ("members", "imagenet13-public"),
    ("doctor", "{folder}/place"),
    ("resume", "{folder}/r"),
    ("search", "{folder}/r"),
    ("subclassifiers", "plan", "{folder}/r"),
    ("summary", "{folder}/r"),
    ("table", "show", "{folder}/r"),
    ("table", "diff", "{folder}/r", "{folder}/r"),
    ("table", "repair", "{folder}/r"),
    ("table", "gc", "{folder}/r"),
    ("table", "export", "{folder}/r", "--out", "{folder}/x.npz"),
    ("table", "import", "{folder}/new"),
    ("benchmark", "search", "no_such=1"),
    ("benchmark", "table", "no_such=1"),
    ("benchmark", "views", "no_such=1"),
)
EXIT_CODES = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of imported predictions."""
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    for name in ("a", "b"):
        scores = np.exp(rng.normal(size=(60, 3)) + 2 * np.eye(3)[labels])
        np.save(folder / f"{name}.npy", scores / scores.sum(axis=1, keepdims=True))
    np.save(folder / "labels.npy", labels)
    words = [str(folder / "r"), str(folder / "a.npy"), str(folder / "b.npy")]
    assert _end(["table", "import", *words, "--labels", str(folder / "labels.npy")]) == 0
    return folder


def _words(rng: random.Random) -> Iterator[str]:
    for _ in range(rng.randint(1, 3)):
        kind = rng.random()
        if kind < 0.15:
            yield rng.choice(HOSTILE)
            continue
        key, value = rng.choice(KEYS), rng.choice(VALUES)
        if kind < 0.4:
            value = "".join(
                rng.choice("{}[]:,&*!|>'\"%@`#-? \t\x1bé\u202e\udce9a1.\n") for _ in range(9)
            )
        if kind > 0.9:
            key = rng.choice(
                ("", ".", "a..b", "0", "members.-1.x", f"{key}.", f".{key}", f"{key}.{key}")
            )
        yield f"{key}={value}" if rng.random() < 0.95 else value


def _end(words: list[str]) -> int:
    """End as the command itself does; what is no exit is a traceback."""
    before, sys.argv = sys.argv, ["ensemble", *words]
    try:
        command.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return code


@contextmanager
def _named(words: list[str]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"words: {words!r}")
        raise


def _fuzz(count: int, seed: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        verb = [word.format(folder=folder) for word in rng.choice(VERBS)]
        words = [*verb, *_words(rng)]
        with _named(words):
            code = _end(words)
            told = capsys.readouterr()
            assert code in EXIT_CODES, told.err
            assert "Traceback" not in told.err
            assert not set("\x1b\x9b\u202e\x07") & set(told.out + told.err)
            if code:
                assert told.out.strip() or told.err.strip()


@pytest.mark.parametrize(
    "verb", [v for v in VERBS if v[0] not in ("summary",) and "import" not in v]
)
@pytest.mark.parametrize("word", HOSTILE[:6])
def test_aliases_keys_that_stand_twice_and_endless_nesting_are_refused_by_every_verb(
    verb: tuple[str, ...], word: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if verb[0] in ("table", "doctor") and verb[1] != "import":
        word = f"storage.{word}" if verb[0] == "table" else word
    assert _end([w.format(folder=folder) for w in verb] + [word]) == 2, capsys.readouterr()
    assert len(capsys.readouterr().err) < 20_000


def test_words_of_every_verb_end_with_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _fuzz(150, 0, folder, capsys)


@pytest.mark.nightly
def test_ten_thousand_words_of_every_verb_end_with_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _fuzz(10_000, 1, folder, capsys)
