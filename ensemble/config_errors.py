"""What is wrong with settings, in words that name no part of the validator: where, what, and what was expected."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.reader import ReaderError

from ensemble.errors import UnknownNameError

_LONGEST_VALUE = 80

# What was expected, by the validator's name for the problem; braces hold what it knows of the bound.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "settings as {{NAME: value}}",
    "finite_number": "a number that is not infinite and not NaN",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list, as [a, b]",
    "literal_error": "{expected}",
    "multiple_of": "a multiple of {multiple_of}",
    "path_type": "a path",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "string_type": "text",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "tuple_type": "a list, as [a, b]",
}
_NO_MAPPING = {"model_type", "model_attributes_type", "mapping_type"}

_YAML_PROBLEMS = (
    (r"'\t'", "a tab stands there. Indent with spaces"),
    (
        "could not find expected ':'",
        "a key has no `: ` behind it. Write `key: value`, with a space after the colon",
    ),
    (
        "expected <block end>",
        "it is indented unlike the lines that it belongs to, or a quote or bracket is open. "
        "Indent the settings of one group alike",
    ),
    ("'<stream end>'", "a bracket is open at the end. Close it"),
    ("could not determine a constructor", "a tag that begins with ! is not accepted. Leave it out"),
    ("mapping values are not allowed", "a second `: ` stands in one line. Put text in quotes"),
)


def explain(kind: type[BaseModel], error: ValidationError) -> list[str]:
    """Name every setting that is wrong, in a sentence each.

    Args:
        kind: The settings that were to be made.
        error: What the validator says.
    """
    problems = error.errors()
    places = [tuple(problem["loc"]) for problem in problems]
    return [
        _explain(kind, problem)
        for problem, place in zip(problems, places, strict=True)
        # A list whose items are wrong is also said to be too short.
        if problem["type"] != "too_short" or not any(_is_below(other, place) for other in places)
    ]


def explain_yaml(error: yaml.YAMLError, has_lines: bool) -> str:
    """Say in words why a text is not YAML.

    Args:
        error: What the parser says.
        has_lines: Whether to say in which line, because the user has written several.
    """
    if isinstance(error, ReaderError):
        if error.encoding != "unicode":
            return f"byte {error.position + 1} is not UTF-8. Save the file as UTF-8"
        return f"character {error.position + 1} is a control character. Leave it out"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    problem = str(error.problem)
    sentence = next((text for sign, text in _YAML_PROBLEMS if sign in problem), problem)
    # A key without its colon is noticed a line too late.
    is_late = "could not find expected ':'" in problem and error.context_mark is not None
    mark = error.context_mark if is_late else error.problem_mark
    opened = error.context_mark
    if "'<stream end>'" in problem and opened is not None and has_lines:
        return f"the bracket in line {opened.line + 1} is open at the end. Close it"
    return f"line {mark.line + 1}: {sentence}" if has_lines and mark is not None else sentence


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The settings that a setting holds itself; nothing where it is a list of them, or has them by name."""
    is_collection = get_origin(annotation) in (tuple, list, dict)
    return [] if is_collection else list(_models_in(annotation))


def _explain(kind: type[BaseModel], problem: Any) -> str:
    loc = problem["loc"]
    models, names = _follow(kind, loc)
    where, value = ".".join(names), problem["input"]
    context: dict[str, Any] = {k: _whole(bound) for k, bound in problem.get("ctx", {}).items()}
    head = f"{where}: " if where else ""
    match problem["type"]:
        case "extra_forbidden":
            return f"{head}{_explain_unknown(kind, loc)}"
        case "union_tag_invalid":
            known = context["expected_tags"].replace("'", "").split(", ")
            return f"{head}{UnknownNameError.of('kind', context['tag'], known)}"
        case "union_tag_not_found":
            return (
                f"{head}the setting `kind` is needed in {_shown(value)}. Known: {_kinds(models)}."
            )
        case "literal_error" if isinstance(value, str):
            known = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"{head}{UnknownNameError.of('choice', value, known)}"
        case "missing" if loc and isinstance(loc[-1], int):
            return f"{'.'.join(names[:-1])}: value number {loc[-1] + 1} is needed and not there."
        case "missing":
            return f"{head}this setting is needed and not there."
        case "value_error":
            message: str = problem["msg"]
            return f"{head}{message.removeprefix('Value error, ')}"
        case "invalid_key":
            return f"{head}the key {_shown(value)} is no text. Expected the name of a setting."
        case "string_pattern_mismatch":
            meaning = _describe(kind, loc) or f"Expected text of the form {context['pattern']}."
            return f"{head}{_shown(value)} is not of the form that is expected. {meaning}"
        case name if name in _NO_MAPPING:
            return f"{head}expected {_form(models, value)}, not {_shown(value)}."
    expected = _EXPECTED.get(problem["type"])
    if expected is None:
        return f"{head}{problem['msg']}, not {_shown(value)}."
    quotes = ""
    if problem["type"] == "string_type" and isinstance(value, int | float):
        quotes = f" Put it in quotes: '{_shown(value)}'."
    return f"{head}expected {expected.format(**context)}, not {_shown(value)}.{quotes}"


def _whole(bound: object) -> object:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _explain_unknown(kind: type[BaseModel], loc: Sequence[Any]) -> str:
    """Say which setting was meant: one of the same group, or else one of another."""
    key = str(loc[-1])
    models, _ = _follow(kind, loc[:-1])
    names = sorted({name for model in models for name in model.model_fields})
    known = f"Known here: {', '.join(names)}."
    if ":" in key:
        return f"no such setting. Write a space after the colon of `key: value`. {known}"
    near = difflib.get_close_matches(key.lstrip("-"), names, n=1)
    if not near and len(loc) == 1:
        paths = dict(_paths(kind))
        last = difflib.get_close_matches(key.lstrip("-"), set(paths.values()), n=1, cutoff=0.85)
        near = [path for path, name in paths.items() if name in last][:3]
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"no such setting.{hint} {known}"


def _form(models: Sequence[type[BaseModel]], value: object) -> str:
    kinds = [tag for model in models for tag in _tags(model)]
    if len(models) == 1:
        names = sorted({name for model in models for name in model.model_fields})
        return f"settings as {{key: value}} with keys of {', '.join(names)}"
    example = value if value in kinds else kinds[0]
    return f"settings with a kind, as {{kind: {example}}} (known: {', '.join(sorted(kinds))})"


def _kinds(models: Sequence[type[BaseModel]]) -> str:
    return ", ".join(sorted(tag for model in models for tag in _tags(model)))


def _describe(kind: type[BaseModel], loc: Sequence[Any]) -> str:
    models, _ = _follow(kind, loc[:-1])
    fields = (model.model_fields.get(str(loc[-1])) for model in models)
    text = next((field.description for field in fields if field and field.description), "")
    return " ".join(text.split())


def _follow(kind: type[BaseModel], loc: Iterable[Any]) -> tuple[list[type[BaseModel]], list[str]]:
    """Find what may stand at a place, and the place as a user writes it: without the names of kinds."""
    here: list[type[BaseModel]] = [kind]
    names: list[str] = []
    for part in loc:
        # Where several kinds may stand, the validator names the kind first.
        if len(here) > 1 and (tagged := [model for model in here if part in _tags(model)]):
            here = tagged
            continue
        fields = [
            model.model_fields[part].annotation for model in here if part in model.model_fields
        ]
        names.append(str(part))
        # A list's index stands in the place too, but is no field: it changes nothing.
        here = [model for field in fields for model in _models_in(field)] or here
    return here, names


def _paths(kind: type[BaseModel], above: str = "") -> Iterator[tuple[str, str]]:
    """List every setting by its whole name, with the last part of it."""
    for name, field in kind.model_fields.items():
        yield f"{above}{name}", name
        origin = get_origin(field.annotation)
        place = ".NAME" if origin is dict else ".0" if origin in (tuple, list) else ""
        for model in _models_in(field.annotation):
            yield from _paths(model, f"{above}{name}{place}.")


def _tags(model: type[BaseModel]) -> list[str]:
    """The kinds that a model is of: values of its setting `kind`, of which most have one."""
    field = model.model_fields.get("kind")
    return [str(tag) for tag in get_args(field.annotation)] if field else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _is_below(place: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _shown(value: object) -> str:
    """Write a value as YAML has it, cut where it is long."""
    if isinstance(value, str):
        text = repr(value)
    elif isinstance(value, Mapping | list | tuple | bool | int | float) or value is None:
        plain = list(value) if isinstance(value, tuple) else value
        text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
        text = text.strip().removesuffix("...").strip()
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
