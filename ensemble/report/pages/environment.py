"""The template environment of all pages: escaping, the style sheet, and one filter for each wording."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ensemble.report.pages import wording

TEMPLATES = Path(__file__).parent / "templates"

# Each number has two filters: NAME marks it up with its exact value, and NAME_text, for attributes of
# tags, gives the text alone.
_TEXTS: dict[str, Callable[..., str]] = {
    "percent": wording.percent_text,
    "points": wording.points_text,
    "count": wording.count_text,
    "weight": wording.weight_text,
    "p": wording.p_text,
    "seconds": wording.seconds_text,
    "large": wording.large_text,
    "threshold": wording.threshold_text,
    "rate": wording.rate_text,
    "cost": wording.cost_text,
    "short": wording.short_text,
    "decimal": wording.decimal_text,
}


@cache
def page_environment() -> Environment:
    """Make the environment that every page is rendered in."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name, text in _TEXTS.items():
        environment.filters[f"{name}_text"] = text
        environment.filters[name] = _with_value(text)
    environment.filters["plain"] = wording.plain
    environment.filters["moment"] = wording.moment_text
    # The style sheet is ours, so it goes in unescaped; nothing else does.
    environment.globals["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment


def _with_value(text: Callable[..., str]) -> Callable[..., Markup]:
    return lambda value, *settings: wording.figure(value, text(value, *settings))
