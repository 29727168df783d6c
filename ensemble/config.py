"""The base of every setting, and the one way that a YAML file and words such as `seed=7` become settings.

A stage keeps its settings beside its code; `jobs.settings` puts them together. Imports no torch.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from ensemble.config_errors import explain, explain_yaml, models_of
from ensemble.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20
MAX_CONFIG_DEPTH = 32


class Config(BaseModel):
    """Settings are frozen, reject unknown keys, and take their help from the text under a field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # Python's, of a user that is not there
        raise ValueError(
            f"{str(path)!r} begins with ~, and no such home folder is known."
        ) from error


# A process on another machine, or in another folder, must mean the same file.
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]

S3_SCHEME = "s3://"
_S3_URL = re.compile(r"s3://[^/?#@:\s]+(/[^?#]*)?")


def _place(text: str) -> str:
    if text.startswith("s3:"):
        if not _S3_URL.fullmatch(text):
            raise ValueError(
                f"{text!r} is no place of S3; expected s3://bucket/prefix, without keys in it."
            )
        return text.rstrip("/")
    return str(_absolute(Path(text)))


# A path on this machine, made absolute, or s3://bucket/key.
Place = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value),
    AfterValidator(_place),
]

AnyConfig = TypeVar("AnyConfig", bound=Config)


class _Loader(yaml.SafeLoader):
    """Safe YAML without its traps: no aliases (bombs), no duplicate keys, bounded depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ConfigError(
                f"line {event.start_mark.line + 1}: the YAML alias *{event.anchor} is not accepted; "
                "write the value out."
            )
        self.depth += 1
        if self.depth > MAX_CONFIG_DEPTH:
            raise ConfigError(f"the YAML is nested deeper than {MAX_CONFIG_DEPTH} levels.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        scalar = super().construct_scalar(node)
        if "\0" in str(scalar):
            raise ConfigError(
                f"line {node.start_mark.line + 1}: {scalar!r} holds the character NUL, which no path "
                "and no name has; leave it out."
            )
        return scalar

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        # An explicit tag can ask for a mapping where none stands; PyYAML then says so.
        keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        for i, key in enumerate(keys):
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise ConfigError(f"line {line}: the key {key!r} stands twice; keep one of them.")
        return cast(dict[Any, Any], super().construct_mapping(node, deep=deep))


# YAML 1.1 reads 1e-3 as a string: it wants a dot and a signed exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load(
    kind: type[AnyConfig], path: Path, overrides: Sequence[str] = (), *, name: str = ""
) -> AnyConfig:
    """Read settings from a YAML file, put the overrides on top, and check the whole once.

    Args:
        kind: The settings to make.
        path: A YAML file of at most 1 MiB, without aliases and duplicate keys.
        overrides: Words for `read_settings`.
        name: What messages call the file; its path if empty.

    Raises:
        ConfigError: The file cannot be read, or a setting is wrong; the message lists every one.
    """
    name = name or str(path)
    changed = f"{name} with {' '.join(overrides)}" if overrides else name
    return check(kind, read_settings(full_words(kind, overrides), _read(path, name)), changed)


def load_words(
    kind: type[AnyConfig],
    words: Sequence[str],
    onto: Mapping[str, Any] | None = None,
    *,
    group: str = "",
) -> AnyConfig:
    """Make the settings of a verb from its words alone.

    Args:
        kind: The settings to make.
        words: Words for `full_words` and `read_settings`.
        onto: Settings that the words are put on top of.
        group: The group that these settings are in the config of a run; words may begin with it.

    Raises:
        ConfigError: A word cannot be read, or a setting is wrong; the message lists every one.
    """
    words = [word.removeprefix(f"{group}.") if group else word for word in words]
    return check(kind, read_settings(full_words(kind, words), onto), "the command")


def full_words(kind: type[Config], words: Iterable[str]) -> list[str]:
    """Put the name of its group before a setting that is typed without it: `k=3` is `search.k=3`.

    Args:
        kind: The settings that the words change.
        words: Words of the form key=value; those whose key is in no group stay as they are.

    Raises:
        ConfigError: Several groups have the setting, so that it is not known which is meant.
    """
    groups = {
        name: {key for model in models_of(field.annotation) for key in model.model_fields}
        for name, field in kind.model_fields.items()
    }
    full = []
    for word in words:
        key = word.partition("=")[0].partition(".")[0]
        homes = [] if key in groups else [name for name, keys in groups.items() if key in keys]
        if len(homes) > 1:
            several = " and ".join(f"{home}.{key}" for home in homes)
            raise ConfigError(
                f"the setting {word!r} may be one of several: {several}. Write its name in full."
            )
        full.append(f"{homes[0]}.{word}" if homes else word)
    return full


def read_settings(words: Iterable[str], onto: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Turn words such as `a.b=value` into nested settings.

    Args:
        words: A key, `=`, and a value in YAML without aliases and duplicate keys; `a.0.b` reaches
            into a list. The last word for a key holds.
        onto: Settings that the words are put on top of, which stay as they are; none if not given.

    Raises:
        ConfigError: A word is not of that form, or goes into a setting that has no parts.
    """
    settings = deepcopy(dict(onto or {}))
    for word in words:
        _put(settings, word)
    return settings


def check(kind: type[AnyConfig], settings: Mapping[str, Any], name: str) -> AnyConfig:
    """Make settings from plain values; every wrong one is named, with a did-you-mean.

    Raises:
        ConfigError: A setting is wrong.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "\n".join(f"  {problem}" for problem in explain(kind, error))
        raise ConfigError(f"{name} is not a valid config:\n{problems}") from error


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the config {name!r}: {error.strerror}. Expected the path of a YAML file; "
            "`ensemble schema` prints what it may contain."
        ) from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"the config {name!r} is over 1 MiB; a config is a short YAML file.")
    return parse_settings(text, name)


def parse_settings(text: bytes | str, name: str) -> dict[str, Any]:
    """Read settings from YAML.

    Args:
        text: A YAML mapping, without aliases and duplicate keys.
        name: What messages call the text.

    Raises:
        ConfigError: The text is not YAML, not a mapping, or holds an alias or a key twice.
    """
    try:
        settings = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except yaml.YAMLError as error:
        has_lines = len(text.splitlines()) > 1
        raise ConfigError(f"{name} is not YAML: {explain_yaml(error, has_lines)}.") from error
    # What PyYAML raises on explicit tags that do not fit, as in `!!timestamp x`.
    except (ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"{name} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{name} {_content(settings)}; expected `key: value` lines.")
    return settings


def _content(settings: object) -> str:
    if settings is None:
        return "is empty"
    return "holds a list" if isinstance(settings, list) else f"holds only {settings!r}"


def _put(settings: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"cannot read the setting {word!r}; expected key=value, or a.b=value for a setting b "
            "inside a."
        )
    parsed = parse_settings(f"value: {text}", f"the setting {word!r}")
    if len(parsed) > 1:
        raise ConfigError(
            f"the setting {word!r} sets more than one key; write a word for each of them."
        )
    value = parsed["value"]
    here: Any = settings
    *parents, last = key.split(".")
    for parent in parents:
        here = _step(here, parent, word)
    if isinstance(here, list):
        here[_index(here, last, word)] = value
    else:
        here[last] = value


def _step(here: Any, key: str, word: str) -> Any:
    is_list = isinstance(here, list)
    child = here[_index(here, key, word)] if is_list else here.setdefault(key, {})
    if not isinstance(child, dict | list):
        raise ConfigError(
            f"the setting {word!r} goes into {key!r}, which is {child!r} and has no settings inside."
        )
    return child


def _index(here: list[Any], key: str, word: str) -> int:
    if not key.isdecimal() or int(key) >= len(here):
        raise ConfigError(
            f"the setting {word!r}: {key!r} is no index into a list of {len(here)} "
            f"(0 to {len(here) - 1})."
        )
    return int(key)
