"""The base of every setting, and the one way that a YAML file and words such as `seed=7` become settings.

A stage keeps its settings beside its code; `jobs.settings` puts them together. Imports no torch.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from ensemble.errors import ConfigError, UnknownNameError

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
    return check(kind, read_settings(overrides, _read(path, name)), name)


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
        problems = "\n".join(f"  {_explain(kind, problem)}" for problem in error.errors())
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
    # The last two are what PyYAML raises on explicit tags that do not fit, as in `!!timestamp x`.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"{name} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{name} holds {type(settings).__name__}; expected `key: value` lines.")
    return settings


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


def _explain(kind: type[Config], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    message, value = problem["msg"], problem["input"]
    if problem["type"] == "extra_forbidden":
        names = sorted(_field_names(kind, problem["loc"][:-1]))
        near = difflib.get_close_matches(str(problem["loc"][-1]), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{where}: no such setting.{hint} Known here: {', '.join(names)}."
    if problem["type"] == "union_tag_invalid":
        known = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{where}: {UnknownNameError.of('kind', problem['ctx']['tag'], known)}"
    if problem["type"] == "literal_error" and isinstance(value, str):
        known = problem["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{where}: {UnknownNameError.of('choice', value, known)}"
    if problem["type"] == "missing":
        return f"{where}: this setting is needed and not there."
    if problem["type"] == "value_error":
        return f"{where}: {message.removeprefix('Value error, ')}"
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
    return f"{where}: {message} (found {shown})"


def _field_names(kind: type[Config], loc: Iterable[Any]) -> set[str]:
    """Names of the settings that may stand at a place; unions contribute all their kinds."""
    here: list[type[Config]] = [kind]
    for part in loc:
        tagged = [model for model in here if part == _tag(model)]
        fields = [
            model.model_fields[part].annotation for model in here if part in model.model_fields
        ]
        # A list's index stands in the place too, but is no field: it changes nothing.
        here = tagged or [model for field in fields for model in _models_in(field)] or here
    return {name for model in here for name in model.model_fields}


def _tag(model: type[Config]) -> object:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


def _models_in(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
