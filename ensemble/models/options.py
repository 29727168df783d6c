"""Options of an architecture, written behind its name as `pyramidnet20:alpha=48,depth=110`. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from ensemble.errors import ConfigError, UnknownNameError

ACTIVATIONS = ("relu", "tanh", "leaky_relu", "selu", "hardswish")
"""Names that `ensemble.models.layers.make_activation` knows."""

# What an option takes: a type, the words that are allowed, or whole numbers as 3-3-3.
_NUMBERS = "numbers"
Kind = type | tuple[str, ...] | str

OPTIONS: dict[str, dict[str, Kind]] = {
    "airbench": {"widths": _NUMBERS},
    "alexnet": {
        "activation": ACTIVATIONS,
        "dropout_of": ("inputs", "outputs", "none"),
        "groups": int,
        "initialisation": ("he", "paper"),
        "pool": int,
        "has_lrn": bool,
        "width": float,
        "without": int,
    },
    "densenet": {"activation": ACTIVATIONS, "blocks": _NUMBERS, "growth": int},
    "pyramidnet": {
        "activation": ACTIVATIONS,
        "alpha": float,
        "depth": int,
        "is_bottleneck": bool,
        "shakedrop": float,
        "widening": ("additive", "multiplicative"),
    },
    "published_vgg": {
        "configuration": ("A", "A-LRN", "B", "C", "D", "E"),
        "initialisation": ("he", "paper"),
        "width": float,
    },
    "resnet": {
        "activation": ACTIVATIONS,
        "blocks": _NUMBERS,
        "is_bottleneck": bool,
        "width": int,
    },
    "wide_resnet": {"activation": ACTIVATIONS, "depth": int, "dropout": float, "widen": int},
}
"""Options by the function that builds the network; their meaning stands in its docstring."""


def split_name(name: str) -> tuple[str, str]:
    """Split the name of an architecture from its options, as text; those of a library have none."""
    if "/" in name:
        return name, ""
    architecture, _, options = name.partition(":")
    return architecture, options


def parse(text: str, factory: str, name: str) -> dict[str, Any]:
    """Read options as arguments of the function that builds the network.

    Args:
        text: Options as `alpha=48,depth=110`; empty for none.
        factory: Name of the function.
        name: What messages call the architecture.

    Raises:
        ConfigError: An option is unknown, stands twice, or has a value of another kind.
    """
    kinds, values = OPTIONS.get(factory, {}), dict[str, Any]()
    for word in text.split(",") if text else ():
        key, equals, value = word.partition("=")
        if not equals or key in values:
            raise ConfigError(
                f"{name!r}: cannot read the option {word!r}; write each once, as "
                f"{name.partition(':')[0]}:key=value,key=value."
            )
        if not kinds:
            raise ConfigError(f"{name!r}: this architecture has no options; leave {word!r} out.")
        if key not in kinds:
            raise UnknownNameError.of(f"option of {name.partition(':')[0]}", key, kinds)
        values[key] = _read(value, kinds[key], f"{name!r}: {key}")
    return values


def join_name(name: str, changes: Mapping[str, Any]) -> str:
    """Put options onto those that a name has already; equal options give an equal name.

    Raises:
        ConfigError: The name is one of a library, which takes no options.
    """
    if not changes:
        return name
    if "/" in name:
        raise ConfigError(
            f"{name!r} is an architecture of a library and takes no options; leave {', '.join(changes)} out."
        )
    architecture, text = split_name(name)
    words = dict(word.split("=", 1) for word in text.split(",") if "=" in word)
    words |= {key: _write(value) for key, value in changes.items()}
    return f"{architecture}:{','.join(f'{key}={words[key]}' for key in sorted(words))}"


def _write(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(text: str, kind: Kind, what: str) -> object:
    if isinstance(kind, tuple):
        if text not in kind:
            raise ConfigError(f"{what} is {text!r}; take one of {', '.join(kind)}.")
        return text
    try:
        if kind == _NUMBERS:
            return tuple(int(part) for part in text.split("-"))
        if kind is bool:
            return {"true": True, "false": False}[text]
        assert isinstance(kind, type)
        return kind(text)
    except (KeyError, ValueError) as error:
        hints: dict[Kind, str] = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            _NUMBERS: "whole numbers, as 3-3-3",
        }
        raise ConfigError(f"{what} is {text!r}; give {hints[kind]}.") from error
