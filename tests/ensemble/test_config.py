from contextlib import suppress
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.config import MAX_CONFIG_BYTES, Config, check, load, parse_settings, read_settings
from ensemble.errors import ConfigError
from ensemble.views.settings import ShiftsAndScales
from jobs.settings import RunConfig

SMALLEST = """
images: {source: {kind: digits}}
recipes: {default: {epochs: 3}}
members:
  - {name: a, source: {kind: recipe, architecture: vgg11_small}}
  - {name: b, source: {kind: recipe, architecture: resnet14_small}}
"""


# fmt: off
YAML_WORDS = [
    "a: ", "b", "- ", "? ", ": ", ",", "[", "]", "{", "}", "'", "=", "&a ", "*a", "<<: ", "\t", "\n",
    "  ", "---\n", "!!timestamp ", "!!int ", "!!float ", "!!bool ", "!!set ", "!!omap ", "!!map ",
    "!!null ", "!!python/object:x ", "1e-3", "2001-01-01", "1:2", "0x",
]
# fmt: on


class Anything(Config):
    """One key that takes whatever YAML says."""

    value: object = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def test_smallest_config_is_read_with_its_defaults(path: Path) -> None:
    path.write_text(SMALLEST)
    config = load(RunConfig, path)
    assert [member.name for member in config.members] == ["a", "b"]
    assert config.recipes["default"].epochs == 3
    assert config.seed == 0


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("sead: 1", r"sead: no such setting\. Did you mean 'seed'\? Known here: cluster, images,"),
        ("report: {topk: 3}", r"report\.topk: no such setting\. Did you mean 'top_k'\?"),
        (
            "images: {source: {kind: folder, pth: x}}",
            r"images\.source\.pth: no such setting\. Did you mean 'path'\? "
            r"Known here: kind, labels, max_pixels, path, storage, test\.",
        ),
        (
            "views: {kind: shifts_and_scales, scale: [0.9]}",
            r"views\.scale: no such setting\. Did you mean 'scales'\? "
            r"Known here: average, keep_views, kind, scales, shift\.",
        ),
        (
            "members: [{name: a, source: {kind: recipe, architecture: vgg11_small, sed: 1}}]",
            r"members\.0\.source\.sed: no such setting\. Did you mean 'seed'\?",
        ),
        (
            "members: [{nane: a, source: {kind: checkpoint, path: x}}]",
            r"members\.0\.nane: no such setting\. Did you mean 'name'\?",
        ),
        (
            "recipes: {default: {optimizer: {kind: sgd, learning_rate: 1}}}",
            r"recipes\.default\.optimizer\.learning_rate: no such setting\.",
        ),
        (
            "recipes: {default: {augmentation: {max_shft: 0}}}",
            r"recipes\.default\.augmentation\.max_shft: no such setting\. Did you mean 'max_shift'",
        ),
        ("wholly_unlike: 1", r"wholly_unlike: no such setting\. Known here:"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_known_one(
    path: Path, wrong: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        load(RunConfig, _replaced(path, wrong))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            "views: {kind: centre}",
            r"views: no kind 'centre'\. Did you mean 'center'\? Known: center, crop, crops_144, dense,",
        ),
        (
            "images: {source: {kind: digit}}",
            r"images\.source: no kind 'digit'\. Did you mean 'digits'\? "
            r"Known: cifar10, cifar100, digits, folder, listed, parquet\.",
        ),
        (
            "recipes: {default: {optimizer: {kind: adam}}}",
            r"recipes\.default\.optimizer: no kind 'adam'\. Did you mean 'adamw'\?",
        ),
        (
            "images: {source: {kind: 7}}",
            r"images\.source: no kind '7'\. Known: cifar10, cifar100, digits, folder, listed, parquet\.",
        ),
        ("images: {source: {kind: [folder]}}", r"images\.source: "),
        ("images: {source: {path: x}}", r"images\.source: "),
        (
            "members: [{name: a, source: {kind: recipe, architecture: vgg61_small}}]",
            r"members\.0\.source\.architecture: no architecture 'vgg61_small'\. "
            r"Did you mean 'vgg11_small'\? Known: airbench94, alexnet, alexnet_small,",
        ),
        (
            "members: [{name: a, source: {kind: recipe, architecture: vgg11_small, recipe: defalt}}]",
            r"no recipe 'defalt'\. Did you mean 'default'\? Known: default\.",
        ),
    ],
)
def test_unknown_kind_is_named_with_the_nearest_known_one(
    path: Path, wrong: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        load(RunConfig, _replaced(path, wrong))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("seed: many", r"seed: expected a whole number, not 'many'\."),
        ("members: []", r"members: expected at least 1 of them, not \[\]"),
        ("members: 5", r"members: expected a list, as \[a, b\], not 5\."),
        ("images: {}", r"images\.source: this setting is needed and not there\."),
        ("seed: " + "x" * 100, r"not 'x{76}\.\.\.\."),
        ("1: 2", "run.yaml is not a valid config"),
    ],
)
def test_wrong_value_is_shown(path: Path, wrong: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        load(RunConfig, _replaced(path, wrong))


def test_every_wrong_setting_is_named_at_once(path: Path) -> None:
    path.write_text(SMALLEST + "seed: -1\nrunz: x\nreport: {resamples: 1}\n")
    with pytest.raises(ConfigError, match=r"(?s)not a valid config") as caught:
        load(RunConfig, path)
    named = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(named) == ["report.resamples", "runz", "seed"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' stands twice; keep one of them"),
        ("a: {b: 1, c: 2, b: 3}\n", r"line 1: the key 'b' stands twice"),
        ("a: &x [1]\nb: *x\n", r"line 2: the YAML alias \*x is not accepted; write the value out"),
        ("", "is empty; expected `key: value` lines"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", "holds a list; expected `key: value` lines"),
        ("seed", "holds only 'seed'; expected"),
        ("a: [1\n", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: !!python/object:os.system {}\n", r"is not YAML: a tag that begins with ! is not"),
        ("a: !!python/object/apply:os.system [ls]\n", r"is not YAML: a tag that begins with !"),
        ("a: !!timestamp x\n", "is not YAML"),
        ("a: !!int ''\n", "is not YAML"),
        ("a: !!bool x\n", "is not YAML"),
        ("a: !!map x\n", "is not YAML"),
        ("a: 2001-99-99\n", "is not YAML"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper than 32 levels"),
        ("a: " + "[" * 200_000, "nested deeper than 32 levels"),
        ("\n".join(" " * i + "a:" for i in range(40)), "nested deeper than 32 levels"),
    ],
)
def test_yaml_with_a_trap_is_refused(path: Path, text: str, match: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        load(RunConfig, path)
    assert caught.match(match)


def test_alias_bomb_is_refused_before_it_grows(path: Path) -> None:
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'lol'}]" for i in range(30)]
    path.write_text("\n".join(rows))
    started = process_time()
    with pytest.raises(ConfigError, match=r"line 2: the YAML alias \*a0 is not accepted"):
        load(RunConfig, path)
    assert process_time() - started < 1


def test_file_over_one_mebibyte_is_refused(path: Path) -> None:
    path.write_text(SMALLEST + "#" * MAX_CONFIG_BYTES)
    with pytest.raises(ConfigError, match=r"run\.yaml' is over 1 MiB; a config is a short YAML"):
        load(RunConfig, path)


def test_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*run\.yaml': No such file.*YAML file"):
        load(RunConfig, path)


def test_directory_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config .*: Is a directory"):
        load(RunConfig, tmp_path)


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02", b"\x89PNG\r\n\x1a\n\xff\xfe", b"\xff\xfe\x00"]
)
def test_binary_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.yaml (is not YAML|holds)"):
        load(RunConfig, path)


@settings(deadline=None, max_examples=300)
@given(
    words=st.lists(
        st.sampled_from(YAML_WORDS),
        max_size=9,
    )
)
def test_no_text_makes_anything_but_settings_or_a_config_error(words: list[str]) -> None:
    with suppress(ConfigError):
        load_text("".join(words))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E+4", -20000.0),
        ("1.5e3", 1500.0),
        ("3", 3),
        ("0.5", 0.5),
        ("e3", "e3"),
        ("1e", "1e"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_numbers_are_read_as_one_writes_them(text: str, value: object) -> None:
    found = load_text(text)
    assert found == value
    assert type(found) is type(value)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_every_number_that_python_prints_comes_back(number: float) -> None:
    assert load_text(repr(number)) == number


def test_overrides_reach_into_mappings_and_lists(path: Path) -> None:
    path.write_text(SMALLEST)
    words = ["seed=7", "recipes.default.epochs=5", "members.0.name=x", "report.top_k=2"]
    config = load(RunConfig, path, words)
    assert config.seed == 7
    assert config.recipes["default"].epochs == 5
    assert [member.name for member in config.members] == ["x", "b"]
    assert config.report.top_k == 2


def test_override_takes_yaml_and_replaces_a_whole_part(path: Path) -> None:
    path.write_text(SMALLEST)
    view = "views={kind: shifts_and_scales, scales: [0.9]}"
    last = "members.1={name: z, source: {kind: recipe, architecture: pyramidnet20}}"
    config = load(RunConfig, path, [view, last])
    assert config.views == ShiftsAndScales(shift=1, scales=(0.9,))
    assert config.members[1].name == "z"


def test_later_override_wins(path: Path) -> None:
    path.write_text(SMALLEST)
    assert load(RunConfig, path, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("seed", r"cannot read the setting 'seed'; expected key=value, or a\.b=value"),
        ("=3", r"cannot read the setting '=3'"),
        ("", r"cannot read the setting ''"),
        ("sead=3", r"sead: no such setting\. Did you mean 'seed'"),
        ("report..top_k=3", r"report\.: no such setting|report\.: |no such setting"),
        ("members.2.name=x", r"'2' is no index into a list of 2 \(0 to 1\)"),
        ("members.-1.name=x", r"'-1' is no index into a list of 2"),
        ("members.first.name=x", r"'first' is no index into a list of 2"),
        ("members.0.name.first=x", r"goes into 'name', which is 'a'"),
        ("seed=[1", r"the setting 'seed=\[1' is not YAML"),
        ("seed=*x", r"the setting .*the YAML alias \*x is not accepted"),
        ("seed=1\nruns: x", r"sets more than one key; write a word for each"),
        ("seed=!!python/object:os.system {}", r"is not YAML"),
    ],
)
def test_override_that_cannot_be_read_is_refused(path: Path, word: str, match: str) -> None:
    path.write_text(SMALLEST)
    with pytest.raises(ConfigError, match=match):
        load(RunConfig, path, [word])


def test_words_become_nested_settings_and_the_last_one_for_a_key_holds() -> None:
    words = ["a.b=1", "c=[x, {y: 1e-3}]", "a.d=", "c.1.y=2e-3", "a.b=http://host:9000"]
    assert read_settings(words) == {
        "a": {"b": "http://host:9000", "d": None},
        "c": ["x", {"y": 0.002}],
    }
    assert read_settings([]) == {}


def test_words_leave_the_settings_below_them_as_they_are() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": [3]}
    assert read_settings(["a.b=5", "d.0=6"], below) == {"a": {"b": 5, "c": 2}, "d": [6]}
    assert below == {"a": {"b": 1, "c": 2}, "d": [3]}


def test_text_that_is_no_mapping_is_refused_by_its_name() -> None:
    assert parse_settings("{kind: folder, max_pixels: 1e3}", "--images")["max_pixels"] == 1000.0
    with pytest.raises(ConfigError, match="--images holds a list; expected `key: value` lines"):
        parse_settings("[a]", "--images")


def test_messages_call_the_file_by_the_name_given(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the config 'digits'"):
        load(RunConfig, path, name="digits")


def test_settings_are_frozen_and_refused_when_wrong_from_code_too() -> None:
    with pytest.raises(ConfigError, match=r"here is not a valid config:\n  valu: no such setting"):
        check(Anything, {"valu": 1}, "here")


def load_text(text: str) -> object:
    """What a text is as a value; through an override, which needs no file of its own."""
    return load(Anything, Path(__file__).with_name("anything.yaml"), [f"value={text}"]).value


def _replaced(path: Path, wrong: str) -> Path:
    """The smallest config with a top-level line replaced or added."""
    key = wrong.split(":")[0]
    lines, skip = [], False
    for line in SMALLEST.splitlines():
        skip = line.startswith(f"{key}:") or (skip and line.startswith(" "))
        lines += [] if skip else [line]
    path.write_text("\n".join([*lines, wrong]))
    return path
