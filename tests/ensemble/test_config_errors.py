import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.config import check, full_words, load, parse_settings
from ensemble.errors import ConfigError
from jobs.settings import RunConfig

CONFIG = """
images: {source: {kind: digits}}
recipes: {default: {}}
members: [{name: a, source: {kind: recipe, architecture: vgg11_small}}]
"""
# Words that only those know who know the validator or the parser of YAML.
JARGON = re.compile(
    r"Input|Extra|valid (?!config)|instance|dictionary|[Tt]uple|NoneType|discriminator|pars(e|ing)|"
    r"scanning|<|should be|pattern|bool\b|integer|Python"
)

PLACES = [
    "seed",
    "name",
    "runs",
    "temperature",
    "views",
    "members",
    "search",
    "search.k",
    "search.kind",
    "search.max_cost",
    "search.costs",
    "images.split",
    "images.source",
    "images.split.train",
    "subclassifiers.num_clusters",
    "recipes.default.optimizer",
    "storage.endpoint",
    "cluster.gpus",
    "members.0.preprocessing.mean",
    "members.0.source",
    "no_such_setting",
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 30),
    st.floats(),
    st.text("aZ9 /:é", max_size=9),
    st.lists(st.integers(-1, 2), max_size=3),
    st.dictionaries(st.sampled_from(["kind", "a", "path"]), st.integers(0, 1), max_size=2),
)


def _with(place: str, value: Any) -> dict[str, Any]:
    document: dict[str, Any] = parse_settings(CONFIG, "config")
    here: Any = document
    *parents, last = place.split(".")
    for parent in parents:
        here = here[int(parent)] if isinstance(here, list) else here.setdefault(parent, {})
    here[last] = value
    return document


@settings(deadline=None, max_examples=300)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_a_wrong_value_is_named_without_a_word_of_the_validators(place: str, value: Any) -> None:
    message = ""
    try:
        check(RunConfig, _with(place, value), "my.yaml")
    except ConfigError as error:
        message = str(error)
    assert not JARGON.search(message)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("seed", 1.5, "seed: expected a whole number, not 1.5."),
        ("seed", None, "seed: expected a whole number, not null."),
        ("search.k", 0, "search.k: expected at least 1, not 0."),
        ("search.k", 11, "search.k: expected at most 10, not 11."),
        ("search.max_cost", -1, "search.max_cost: expected more than 0, not -1."),
        ("search.max_cost", float("nan"), "a number that is not infinite and not NaN, not .nan."),
        ("temperature", "maybe", "temperature: expected true or false, not 'maybe'."),
        ("name", 50, "name: expected text, not 50. Put it in quotes: '50'."),
        ("name", "a/b", "'a/b' is not of the form that is expected. Name of the run's folder"),
        ("views", "flip", "views: expected settings with a kind, as {kind: flip} (known: "),
        ("images.source", {"path": "x"}, "the setting `kind` is needed in {path: x}. Known: cifar"),
        ("images.source", {"kind": "folder"}, "images.source.path: this setting is needed and not"),
        ("search", "auto", "search: expected settings as {key: value} with keys of bags, combine,"),
        ("members.0.preprocessing", {"mean": [1, 2]}, "mean: value number 3 is needed and not the"),
        ("topk", 3, "topk: no such setting. Did you mean 'report.top_k'?"),
        ("epochs", 3, "epochs: no such setting. Did you mean 'recipes.NAME.epochs'?"),
        ("images.source:{kind", "x", "no such setting. Write a space after the colon of `key: v"),
    ],
)
def test_a_message_says_where_what_and_what_was_expected(
    place: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(RunConfig, _with(place, value), "my.yaml")


def test_a_list_whose_items_are_wrong_is_not_said_to_be_too_short() -> None:
    with pytest.raises(ConfigError) as caught:
        check(RunConfig, _with("members", [{"name": "a"}]), "my.yaml")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", "line 2: a tab stands there. Indent with spaces."),
        ("a: 1\nb:2\n", "line 2: a key has no `: ` behind it."),
        ("a: 1\nb: {c: 3\n", "the bracket in line 2 is open at the end. Close it."),
        ("a:\n  b: 1\n c: 2\n", "line 3: it is indented unlike the lines that it belongs to"),
        ("a: b: c\n", "a second `: ` stands in one line. Put text in quotes."),
        (b"a: caf\xe9\n", "byte 7 is not UTF-8. Save the file as UTF-8."),
        ("a: \x07\n", "character 4 is a control character. Leave it out."),
    ],
)
def test_text_that_is_not_yaml_is_explained(text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"my.yaml is not YAML: {message}")):
        parse_settings(text, "my.yaml")


def test_a_setting_of_one_group_may_be_typed_without_the_group() -> None:
    words = ["k=3", "search.k=3", "seed=1", "hosts=2", "name=x", "nothing=1", "costs.a=1"]
    full = ["search.k=3", "search.k=3", "seed=1", "cluster.hosts=2", "name=x", "nothing=1"]
    assert full_words(RunConfig, words) == [*full, "search.costs.a=1"]


def test_a_setting_of_several_groups_must_be_typed_in_full() -> None:
    with pytest.raises(ConfigError, match=r"'kind=line' may be one of several: .*search\.kind"):
        full_words(RunConfig, ["kind=line"])


def test_every_setting_in_full_stays_as_it_is() -> None:
    words = [f"{name}=x" for name in RunConfig.model_fields]
    assert full_words(RunConfig, words) == words


def test_the_file_and_the_words_are_named(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"my\.yaml with seed=x k=3 is not a valid config"):
        load(RunConfig, path, ["seed=x", "k=3"])
