"""The settings of a run as Markdown tables, made from the JSON schema of a config."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_BOUNDS = (
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
    ("exclusiveMaximum", "<"),
)


@dataclass(frozen=True)
class _Group:
    """A group of settings that a setting holds.

    Attributes:
        name: Name of the group in the schema.
        path: What the names of its settings begin with, such as `images.source.`.
    """

    name: str
    path: str


def settings_table(schema: Schema) -> str:
    """Make a table for each setting at the top; groups are written out where they come first."""
    first = _first_paths(schema)
    lines: list[str] = []
    for name in schema["properties"]:
        lines += [f"### {name}", "", "| setting | type; default | meaning |", "|---|---|---|"]
        lines += [*_rows(name, "", schema, schema, first), ""]
    return "\n".join([*lines, ""])


def _rows(
    name: str, path: str, group: Schema, schema: Schema, first: Mapping[str, str]
) -> Iterator[str]:
    setting = group["properties"][name]
    groups = [*_groups(setting, path + name)]
    text = _type(setting)
    if name in group.get("required", ()):
        text += "; required"
    elif setting.get("default") is not None and not groups:
        text += f"; `{json.dumps(setting['default'], ensure_ascii=False)}`"
    places = dict.fromkeys(first[g.name].rstrip(".") for g in groups if first[g.name] != g.path)
    if places:
        text += f", as {', '.join(f'`{place}`' for place in places)}"
    yield _row(f"`{path}{name}`", text, setting.get("description", ""))
    for inner in groups:
        if first[inner.name] == inner.path:
            yield from _group_rows(inner, len(groups) > 1, schema, first)


def _group_rows(
    group: _Group, is_choice: bool, schema: Schema, first: Mapping[str, str]
) -> Iterator[str]:
    content = schema["$defs"][group.name]
    names = list(content["properties"])
    if is_choice:
        names.remove("kind")
        text = _type(content["properties"]["kind"])
        yield _row(f"**{group.path}kind** {text}", "", content.get("description", ""))
    for name in names:
        yield from _rows(name, group.path, content, schema, first)


def _row(*cells: str) -> str:
    texts = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def _type(setting: Schema) -> str:
    """Describe what a setting can hold, in a few words."""
    options = setting.get("anyOf") or setting.get("oneOf")
    if options:
        texts = dict.fromkeys(_type(option) for option in options)
        return " or ".join(sorted(texts, key=lambda text: (text == "null", text != "group")))
    if "$ref" in setting:
        return "group"
    if "const" in setting or "enum" in setting:
        values = setting.get("enum", [setting.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    kind: str = setting.get("type", "value")
    if kind == "array":
        return f"list of {_plural(_type(setting['items']))}" if "items" in setting else "list"
    if kind == "object":
        inner = setting.get("additionalProperties")
        return f"{_type(inner)} by name" if isinstance(inner, dict) else "mapping"
    bounds = [f"{sign} {setting[key]}" for key, sign in _BOUNDS if key in setting]
    noun = "text" if kind == "string" else kind
    return f"{noun} {' and '.join(bounds)}".strip()


def _plural(text: str) -> str:
    if text.startswith("`"):
        return text
    noun, space, bounds = text.partition(" ")
    return f"{noun}s{space}{bounds}"


def _groups(setting: Schema, path: str) -> Iterator[_Group]:
    """List the groups that a setting holds, itself or in a list or by name."""
    if "$ref" in setting:
        yield _Group(setting["$ref"].rpartition("/")[2], f"{path}.")
    for option in (*setting.get("anyOf", ()), *setting.get("oneOf", ())):
        yield from _groups(option, path)
    if isinstance(setting.get("items"), dict):
        yield from _groups(setting["items"], f"{path}.N")
    if isinstance(setting.get("additionalProperties"), dict):
        yield from _groups(setting["additionalProperties"], f"{path}.NAME")


def _first_paths(schema: Schema) -> dict[str, str]:
    """Find for each group the shortest path that leads to it."""
    paths: dict[str, str] = {}
    queue = deque([("", schema)])
    while queue:
        path, content = queue.popleft()
        for name, setting in content["properties"].items():
            for group in _groups(setting, path + name):
                if group.name not in paths:
                    paths[group.name] = group.path
                    queue.append((group.path, schema["$defs"][group.name]))
    return paths
